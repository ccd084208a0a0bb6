"""Evaluation with tensors of fixed size: what is evaluated here is what is exported."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import paste_masks_in_image

from drfpn.detectors.transform import Transform, rescale
from drfpn.ops import PADDING_SCORE


class PaddedDetections(NamedTuple):
    """Detections of N images, D for each, best first and filled up with entries of score ``PADDING_SCORE``."""

    boxes: Tensor
    """(N, D, 4) x1, y1, x2, y2 in pixels."""
    scores: Tensor
    """(N, D)"""
    labels: Tensor
    """(N, D) 1..K"""
    masks: Tensor | None = None
    """(N, D, M, M) probabilities inside of each box."""


class PaddedInference:
    """Mixin before a torchvision detector: its training, but evaluation as one graph without sizes that depend on data.

    A subclass says in ``find`` what to make of the pyramid's levels.
    """

    transform: Any
    training: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        given = self.transform
        self.transform = Transform(given.min_size, given.max_size, given.image_mean, given.image_std)

    @abstractmethod
    def find(self, features: dict[str, Tensor], images: ImageList) -> PaddedDetections:
        """Return what the levels of a batch show, in pixels of the batch."""

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        """Return losses in training; else for each image "boxes", "labels", "scores" and "masks" (D, 1, H, W)."""
        if self.training:
            return super().forward(images, targets)  # type: ignore[misc]
        outputs = self.detect(images)
        for image, output in zip(images, outputs, strict=True):
            if "crops" in output:
                output["masks"] = paste_masks_in_image(output.pop("crops"), output["boxes"], image.shape[-2:])
        return outputs

    def detect(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """Return for each image "boxes", "labels" and "scores"; masks stay "crops" (D, 1, M, M) of their boxes.

        Masks of the size of a large image, one for each detection, take gigabytes: paste them one by one.
        """
        found = self.detect_batch(images)
        outputs = []
        for i, scores in enumerate(found.scores):
            real = scores > PADDING_SCORE
            output = {"boxes": found.boxes[i][real], "labels": found.labels[i][real], "scores": scores[real]}
            if found.masks is not None:
                output["crops"] = found.masks[i][real][:, None]
            outputs.append(output)
        return outputs

    def detect_batch(self, images: Sequence[Tensor]) -> PaddedDetections:
        """Detect with tensors of fixed size.

        Args:
            images: (3, H, W) each, bytes or floats in [0, 1].

        Returns:
            Detections in pixels of each image.
        """
        batch, _ = self.transform([as_float(image) for image in images])
        found = self.find(self.backbone(batch.tensors), batch)  # type: ignore[attr-defined]
        boxes = [
            rescale(box, size, image.shape[-2:])
            for box, size, image in zip(found.boxes, batch.image_sizes, images, strict=True)
        ]
        return found._replace(boxes=torch.stack(boxes))


def each_mask(crops: Tensor, boxes: Tensor, size: Sequence[int]) -> Iterator[Tensor]:
    """Yield the mask of each detection in its image, (height, width), true from probability one half on.

    One by one, since probabilities of the image's size for all of them may fill the memory.

    Args:
        crops: (D, 1, M, M), probabilities inside of each box.
        boxes: (D, 4) in pixels of the image.
        size: height and width of the image.
    """
    for crop, box in zip(crops, boxes, strict=True):
        yield paste_masks_in_image(crop[None], box[None], size)[0, 0] >= 0.5


def all_masks(crops: Tensor, boxes: Tensor, size: Sequence[int]) -> Tensor:
    """Return the masks of :func:`each_mask` in one tensor, (D, height, width)."""
    masks = boxes.new_zeros(len(boxes), *size, dtype=torch.bool)
    for place, mask in zip(masks, each_mask(crops, boxes, size), strict=True):
        place[:] = mask
    return masks


def as_float(image: Tensor) -> Tensor:
    """Return an image in [0, 1]."""
    return image if image.is_floating_point() else image.float() / 255


def per_anchor(maps: Tensor, values: int) -> Tensor:
    """Turn a head's map (N, A * values, H, W) into (N, H * W * A, values), in float32."""
    n, _, height, width = maps.shape
    return maps.view(n, -1, values, height, width).permute(0, 3, 4, 1, 2).reshape(n, -1, values).float()


def rows(values: Tensor, index: Tensor) -> Tensor:
    """Return of ``values`` (N, n, ...) those at ``index`` (N, k): (N, k, ...)."""
    more = values.shape[2:]
    return values.gather(1, index.view(*index.shape, *(1 for _ in more)).expand(*index.shape, *more))
