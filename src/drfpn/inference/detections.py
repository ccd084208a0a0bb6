"""``Detections``: boxes, labels, scores and masks of one image, drawn or converted to other formats."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import torch
from PIL import Image
from torch import Tensor

from drfpn.detectors.postprocess import iter_masks, paste_masks
from drfpn.evaluation.coco import Result, to_results
from drfpn.inference.images import ImageLike, to_image_tensor
from drfpn.utils.errors import UserError
from drfpn.utils.packages import import_optional
from drfpn.visualization import draw_boxes


@dataclass(frozen=True)
class Detections:
    """Detections of one image, sorted by score, on the CPU. The image itself is not stored."""

    boxes: Tensor
    """(D, 4), float32: x1, y1, x2, y2 in pixels of the image."""
    labels: Tensor
    """(D,), int64: 1..K for K classes."""
    scores: Tensor
    """(D,), float32: confidence, 0..1."""
    image_size: tuple[int, int]
    """Height and width of the image in pixels."""
    classes: tuple[str, ...]
    """Class names: that of label k is ``classes[k - 1]``."""
    category_ids: tuple[int, ...]
    """Category ids of the data set: that of label k is ``category_ids[k - 1]``."""
    crops: Tensor | None = None
    """(D, 1, M, M), float32: mask probabilities inside of each box; ``None`` for detectors without masks."""

    def __len__(self) -> int:
        return len(self.boxes)

    def select(self, index: Tensor) -> "Detections":
        """Return a subset of the detections.

        Args:
            index: indices (d,), int64, or a mask (D,), bool.
        """
        crops = None if self.crops is None else self.crops[index]
        return replace(self, boxes=self.boxes[index], labels=self.labels[index], scores=self.scores[index], crops=crops)

    def above(self, score_threshold: float) -> "Detections":
        """Return the detections with a score of at least ``score_threshold``."""
        return self.select(self.scores >= score_threshold)

    def class_names(self) -> list[str]:
        """Return the class name of each detection."""
        return [self.classes[label - 1] for label in self.labels.tolist()]

    def masks(self) -> Tensor | None:
        """Return binary masks (D, H, W), bool, in the size of the image; ``None`` for detectors without masks."""
        return None if self.crops is None else paste_masks(self.crops, self.boxes, self.image_size)

    def plot(self, image: ImageLike, *, highlight: Tensor | None = None, min_side: int = 480) -> Image.Image:
        """Draw boxes, class names, scores and masks on the image.

        Args:
            image: the image that was predicted on, in any form that ``Predictor`` takes.
            highlight: mask (D,), bool, of the detections to draw in color; the others are gray. Default: all.
            min_side: an image with a shorter side is enlarged to this one, in pixels, so that text is legible; 0 to
                keep its size.

        Returns:
            An RGB picture.

        Raises:
            UserError: the image cannot be read or has another size than ``image_size``.
        """
        pixels = to_image_tensor(image)
        if pixels.shape[-2:] != torch.Size(self.image_size):
            raise UserError(
                f"The image has {pixels.shape[-2]} x {pixels.shape[-1]} pixels (height x width), "
                f"but these detections are of one with {self.image_size[0]} x {self.image_size[1]}."
            )
        return draw_boxes(
            pixels,
            self.boxes,
            self.labels,
            self.classes,
            self.scores,
            masks=None if self.crops is None else _LazyMasks(self.crops, self.boxes, self.image_size),
            highlight=highlight,
            min_side=min_side,
        )

    def to_coco(self, image_id: int) -> list[Result]:
        """Convert to COCO's results format.

        Args:
            image_id: id of the image.

        Returns:
            A dict for each detection: image_id, category_id, bbox (x, y, width, height) in pixels, score and, for
            detectors with masks, segmentation (RLE).
        """
        output = {"boxes": self.boxes, "labels": self.labels, "scores": self.scores}
        if self.crops is not None:
            output["crops"] = self.crops
        return to_results(output, image_id, self.category_ids, self.image_size)

    def to_hf(self) -> list[dict[str, Any]]:
        """Convert to the output of the image pipelines of Hugging Face's ``transformers``.

        Returns:
            A dict for each detection, as of the pipeline ``object-detection``: ``score``; ``label``, the class name;
            ``box``, a dict of ``xmin``, ``ymin``, ``xmax`` and ``ymax`` in whole pixels, truncated as there. Of
            detectors with masks it also has ``mask``, as of the pipeline ``image-segmentation``: a Pillow image in
            mode L and in the size of the image, 255 on the object and 0 elsewhere.
        """
        sides = ("xmin", "ymin", "xmax", "ymax")
        columns = self.scores.tolist(), self.class_names(), self.boxes.int().tolist()
        rows: list[dict[str, Any]] = [
            {"score": score, "label": label, "box": dict(zip(sides, box, strict=True))}
            for score, label, box in zip(*columns, strict=True)
        ]
        if self.crops is not None:
            for row, mask in zip(rows, iter_masks(self.crops, self.boxes, self.image_size), strict=True):
                row["mask"] = Image.fromarray(mask.byte().mul(255).numpy())
        return rows

    def to_supervision(self) -> Any:
        """Convert to ``supervision.Detections``; its ``class_id`` starts at 0, names are in ``data["class_name"]``.

        Raises:
            UserError: the package supervision is not installed.
        """
        supervision = import_optional("supervision", feature="to_supervision()")
        import numpy as np

        masks = self.masks()
        return supervision.Detections(
            xyxy=self.boxes.numpy(),
            mask=None if masks is None else masks.numpy(),
            confidence=self.scores.numpy(),
            class_id=self.labels.numpy() - 1,
            data={"class_name": np.array(self.class_names(), dtype=str)},
        )


class _LazyMasks(Sequence[Tensor]):
    """Binary masks (H, W), pasted one at a time: all masks of a large photo would take gigabytes."""

    def __init__(self, crops: Tensor, boxes: Tensor, image_size: tuple[int, int]) -> None:
        self._crops = crops
        self._boxes = boxes
        self._image_size = image_size

    def __len__(self) -> int:
        return len(self._boxes)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> list[Tensor]: ...
    def __getitem__(self, index: int | slice) -> Tensor | list[Tensor]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        (mask,) = iter_masks(self._crops[index][None], self._boxes[index][None], self._image_size)
        return mask
