"""A data set as training sees it."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from drfpn.data.augment.copy_paste import paste
from drfpn.data.base import DetectionDataset, Target
from drfpn.data.validation.boxes import OnBad
from drfpn.utils.errors import UserError, message_of

TRIES = 10
"""Images in place of a bad one before something else must be wrong."""

Skipped = tuple[str, str]
"""Name of an image that was left out, and why."""


class Sample(NamedTuple):
    """One image."""

    image: Tensor
    """(3, H, W) in [0, 1]"""
    target: Target
    name: str
    """What a message should call it."""
    skipped: tuple[Skipped, ...] = ()
    """Those that it stands in for."""


class Batch(NamedTuple):
    """Images of several sizes."""

    images: list[Tensor]
    targets: list[Target]
    names: list[str]
    skipped: list[Skipped]


class TransformedDataset(Dataset[Sample]):
    """A data set as training sees it: drawn by (index, seed), so that no worker's state matters.

    Args:
        dataset: where images come from.
        transform: a transform v2 of (image, target).
        pastes: whether objects of another image are pasted in; needs masks, and images that leave ``transform`` in
            one size.
        on_bad: ``"error"`` raises for an image that cannot be read; else another one takes its place.
    """

    def __init__(
        self, dataset: DetectionDataset, transform: v2.Transform, *, pastes: bool = False, on_bad: OnBad = "error"
    ) -> None:
        self.dataset = dataset
        self.transform = transform
        self.pastes = pastes
        self.on_bad = on_bad

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """Return sample ``index``, its random choices made from ``seed`` alone.

        Raises:
            UserError: the image cannot be read, and so cannot ten others where those may take its place.
        """
        index, seed = key
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would reset those of GPUs, for good
            image, target, index, skipped = self._draw(index)
            if self.pastes:
                other, theirs, _, more = self._draw(int(torch.randint(len(self), ())))
                image, target = paste(image, target, other, theirs)
                skipped += more
        return Sample(image, target, self.dataset.name(index), tuple(skipped))

    def _draw(self, index: int) -> tuple[Tensor, Target, int, list[Skipped]]:
        """Return an image and its target, transformed; its index, and what it stands in for."""
        skipped: list[Skipped] = []
        while True:
            try:
                image, target = self.dataset[index]
                break
            except UserError as error:
                skipped.append((self.dataset.name(index), message_of(error)))
                if self.on_bad == "error" or len(skipped) > TRIES:
                    raise
                index = int(torch.randint(len(self), ()))
        return *self._transform(image, target), index, skipped

    def _transform(self, image: Tensor, target: Target) -> tuple[Tensor, Target]:
        wrapped: Target = dict(target)
        size = {"format": "XYXY", "canvas_size": tuple(image.shape[-2:])}
        wrapped["boxes"] = tv_tensors.BoundingBoxes(target["boxes"], **size)
        wrapped["area"] = target["area"] / _area(target["boxes"])  # of the box: what moves with it
        if "masks" in target:
            wrapped["masks"] = tv_tensors.Mask(target["masks"])
        moved, result = self.transform(tv_tensors.Image(image), wrapped)
        plain = {name: value.as_subclass(Tensor) for name, value in result.items()}
        plain["area"] = plain["area"] * _area(plain["boxes"])
        return moved.as_subclass(Tensor), plain


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)


def collate(samples: Sequence[Sample]) -> Batch:
    """Keep images as a list, since their sizes differ; the rest goes along."""
    return Batch(
        [sample.image for sample in samples],
        [sample.target for sample in samples],
        [sample.name for sample in samples],
        [skipped for sample in samples for skipped in sample.skipped],
    )
