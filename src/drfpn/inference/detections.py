"""What a detector found in one image."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from drfpn.detectors.postprocess import all_masks, each_mask
from drfpn.evaluation.coco import Result, to_results
from drfpn.inference.images import ImageLike, as_image
from drfpn.utils.errors import UserError
from drfpn.visualization import draw


@dataclass(frozen=True)
class Detections:
    """What a detector found in one image, best first. The image itself is not kept."""

    boxes: Tensor
    """(D, 4), x1, y1, x2, y2 in pixels."""
    labels: Tensor
    """(D,), 1..K."""
    scores: Tensor
    """(D,), 0..1."""
    size: tuple[int, int]
    """Height and width of the image, pixels."""
    classes: tuple[str, ...]
    """Name of each class: label k is ``classes[k - 1]``."""
    category_ids: tuple[int, ...]
    """The data set's own id of each class."""
    crops: Tensor | None = None
    """(D, 1, M, M), of mask detectors: probability of the object inside of each box."""

    def __len__(self) -> int:
        return len(self.boxes)

    def at(self, index: Tensor) -> "Detections":
        """Return those at ``index``: numbers (d,) or booleans (D,)."""
        crops = None if self.crops is None else self.crops[index]
        return replace(self, boxes=self.boxes[index], labels=self.labels[index], scores=self.scores[index], crops=crops)

    def above(self, score: float) -> "Detections":
        """Return those with at least ``score``."""
        return self.at(self.scores >= score)

    def names(self) -> list[str]:
        """Return the class name of each."""
        return [self.classes[label - 1] for label in self.labels.tolist()]

    def masks(self) -> Tensor | None:
        """Return the masks (D, H, W) in the image, true inside; ``None`` of detectors without."""
        return None if self.crops is None else all_masks(self.crops, self.boxes, self.size)

    def plot(self, image: ImageLike, *, marked: Tensor | None = None, min_side: int = 480) -> Image.Image:
        """Draw boxes, class names, scores and masks on the image that they were found in.

        Args:
            image: file, Pillow image, or uint8 (3, H, W).
            marked: (D,), the ones to stand out: the others are grey.
            min_side: smaller images are enlarged to this shorter side, so that the text can be read; 0 for never.

        Raises:
            UserError: the image is of another size.
        """
        pixels = as_image(image)
        if pixels.shape[-2:] != torch.Size(self.size):
            raise UserError(
                f"The image has {pixels.shape[-2]} x {pixels.shape[-1]} pixels (height x width), "
                f"but these detections are of one with {self.size[0]} x {self.size[1]}."
            )
        return draw(
            pixels,
            self.boxes,
            self.labels,
            self.classes,
            self.scores,
            masks=None if self.crops is None else _LazyMasks(self),
            marked=marked,
            min_side=min_side,
        )

    def to_coco(self, image_id: int) -> list[Result]:
        """Return COCO's results format: a dict for each, with RLE of its mask where the detector has masks."""
        output = {"boxes": self.boxes, "labels": self.labels, "scores": self.scores}
        if self.crops is not None:
            output["crops"] = self.crops
        return to_results(output, image_id, self.category_ids, self.size)

    def to_supervision(self) -> Any:
        """Return ``supervision.Detections``; its ``class_id`` counts from 0, the names are in ``data["class_name"]``.

        Raises:
            UserError: the package supervision is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise UserError(
                "to_supervision() needs the package supervision, which is not installed: pip install supervision"
            ) from error
        import numpy as np

        masks = self.masks()
        return supervision.Detections(
            xyxy=self.boxes.numpy(),
            mask=None if masks is None else masks.numpy(),
            confidence=self.scores.numpy(),
            class_id=self.labels.numpy() - 1,
            data={"class_name": np.array(self.names(), dtype=str)},
        )


class _LazyMasks(Sequence[Tensor]):
    """Masks (H, W), pasted when they are asked for: all of a large photo at once would take gigabytes."""

    def __init__(self, found: Detections) -> None:
        assert found.crops is not None
        self._crops = found.crops
        self._boxes = found.boxes
        self._size = found.size

    def __len__(self) -> int:
        return len(self._boxes)

    def __getitem__(self, index: Any) -> Any:
        (mask,) = each_mask(self._crops[index][None], self._boxes[index][None], self._size)
        return mask
