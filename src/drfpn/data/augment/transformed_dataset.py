"""``TransformedDataset``: a data set with augmentation, and the collation of its samples to batches."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from drfpn.data.augment.copy_paste import copy_paste
from drfpn.data.base import DetectionDataset, Target
from drfpn.data.validation.issues import OnBad
from drfpn.utils.errors import UserError, message_of

MAX_RETRIES = 10
"""Number of other images that are tried in place of an unreadable one before its error is raised."""

SkippedImage = tuple[str, str]
"""Name of an unreadable image, and the reason."""


class Sample(NamedTuple):
    """One image and its target."""

    image: Tensor
    """(3, H, W) in [0, 1]"""
    target: Target
    name: str
    """Name of the image for messages."""
    skipped: tuple[SkippedImage, ...] = ()
    """The unreadable images that this one replaces."""


class Batch(NamedTuple):
    """Images of several sizes and their targets."""

    images: list[Tensor]
    targets: list[Target]
    names: list[str]
    skipped: list[SkippedImage]


class TransformedDataset(Dataset[Sample]):
    """A data set with augmentation, indexed by (index, seed), so that samples do not depend on the state of a worker.

    Args:
        dataset: the data set.
        transform: a transform v2 of (image, target).
        copy_paste: paste objects of another image; needs masks, and a ``transform`` with a fixed output size.
        on_bad: ``"error"`` raises for an image that cannot be read; otherwise another one replaces it.
    """

    def __init__(
        self, dataset: DetectionDataset, transform: v2.Transform, *, copy_paste: bool = False, on_bad: OnBad = "error"
    ) -> None:
        self.dataset = dataset
        self.transform = transform
        self.copy_paste = copy_paste
        self.on_bad = on_bad

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """Return a sample whose augmentation depends only on the seed.

        Args:
            key: index and seed.

        Raises:
            UserError: the image cannot be read, nor ten others if ``on_bad`` is not ``"error"``.
        """
        index, seed = key
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed the GPUs
            image, target, index, skipped = self._load(index)
            if self.copy_paste:
                source_image, source_target, _, source_skipped = self._load(int(torch.randint(len(self), ())))
                image, target = copy_paste(image, target, source_image, source_target)
                skipped += source_skipped
        return Sample(image, target, self.dataset.name(index), tuple(skipped))

    def _load(self, index: int) -> tuple[Tensor, Target, int, list[SkippedImage]]:
        """Return an image and its target, transformed, its index, and the unreadable images that it replaces."""
        skipped: list[SkippedImage] = []
        while True:
            try:
                image, target = self.dataset[index]
                break
            except UserError as error:
                skipped.append((self.dataset.name(index), message_of(error)))
                if self.on_bad == "error" or len(skipped) > MAX_RETRIES:
                    raise
                index = int(torch.randint(len(self), ()))
        return *self._transform(image, target), index, skipped

    def _transform(self, image: Tensor, target: Target) -> tuple[Tensor, Target]:
        wrapped: Target = dict(target)
        size = {"format": "XYXY", "canvas_size": tuple(image.shape[-2:])}
        wrapped["boxes"] = tv_tensors.BoundingBoxes(target["boxes"], **size)
        wrapped["area"] = target["area"] / _area(target["boxes"])  # relative to the box, with which it scales
        if "masks" in target:
            wrapped["masks"] = tv_tensors.Mask(target["masks"])
        transformed, result = self.transform(tv_tensors.Image(image), wrapped)
        plain = {name: value.as_subclass(Tensor) for name, value in result.items()}
        plain["area"] = plain["area"] * _area(plain["boxes"])
        return transformed.as_subclass(Tensor), plain


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)


def collate(samples: Sequence[Sample]) -> Batch:
    """Return samples as a batch of lists, since the sizes of images differ."""
    return Batch(
        [sample.image for sample in samples],
        [sample.target for sample in samples],
        [sample.name for sample in samples],
        [skipped for sample in samples for skipped in sample.skipped],
    )
