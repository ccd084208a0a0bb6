"""What happens to an image and its target before training sees them, on torchvision's transforms v2."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from drfpn.data.base import DetectionDataset, Target

Sample = tuple[Tensor, Target, str]
"""Image (3, H, W) in [0, 1], target, and what a message should call the image."""


def basic(flip: float = 0.5) -> v2.Transform:
    """Return the paper's pipeline: a horizontal flip with probability ``flip``.

    Boxes are clipped to the image, and those under a pixel are dropped.
    """
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(flip),
            v2.ToDtype(torch.float32, scale=True),
            v2.ClampBoundingBoxes(),
            v2.SanitizeBoundingBoxes(min_size=1, labels_getter=_per_object),
        ]
    )


def _per_object(sample: tuple[Tensor, Target]) -> list[Tensor]:
    """Name what has one entry for each box and loses it together with the box."""
    return [sample[1][key] for key in ("labels", "area", "iscrowd")]


class TransformedDataset(Dataset[Sample]):
    """A data set as training sees it: drawn by (index, seed), so that no worker's state matters.

    Args:
        dataset: where images come from.
        transform: a transform v2 of (image, target).
    """

    def __init__(self, dataset: DetectionDataset, transform: v2.Transform) -> None:
        self.dataset = dataset
        self.transform = transform

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """Return sample ``index``, its random choices made from ``seed`` alone."""
        index, seed = key
        image, target = self.dataset[index]
        height, width = image.shape[-2:]
        wrapped: Target = dict(target)
        boxes = {"format": "XYXY", "canvas_size": (height, width)}
        wrapped["boxes"] = tv_tensors.BoundingBoxes(target["boxes"], **boxes)
        if "masks" in target:
            wrapped["masks"] = tv_tensors.Mask(target["masks"])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            moved, result = self.transform(tv_tensors.Image(image), wrapped)
        plain = {name: value.as_subclass(Tensor) for name, value in result.items()}
        return moved.as_subclass(Tensor), plain, self.dataset.name(index)


def collate(batch: Sequence[Sample]) -> tuple[list[Tensor], list[Target], list[str]]:
    """Keep images as a list, since their sizes differ; targets and names go along."""
    images, targets, names = zip(*batch, strict=True)
    return list(images), list(targets), list(names)
