"""Which anchors and regions a loss looks at, so that the choice for an image does not depend on the others."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.ops import box_iou

from drfpn.utils import distributed


class BalancedSampler(BalancedPositiveNegativeSampler):
    """torchvision's sampler with a generator of its own for each image.

    It is seeded by one number from the global generator and the image's place in the batch of all processes. So
    processes that share a batch choose what one alone would, and their global generators stay in step, whatever the
    images hold.
    """

    def __call__(self, matched_idxs: list[Tensor], *_: Any) -> tuple[list[Tensor], list[Tensor]]:
        """Choose positives and negatives of each image.

        Args:
            matched_idxs: (A,) an image: at least 1 for positives, 0 for negatives, below for neither.
            _: what :class:`IoUBalancedSampler` looks at besides.

        Returns:
            Masks (A,) of the positives and of the negatives chosen, a tensor an image.
        """
        chosen = [
            self._choose(matched, generator)
            for matched, generator in zip(matched_idxs, _generators(matched_idxs), strict=True)
        ]
        return [positive for positive, _ in chosen], [negative for _, negative in chosen]

    def _choose(self, matched: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        positive, negative = (matched >= 1).nonzero().squeeze(1), (matched == 0).nonzero().squeeze(1)
        positive = _some(positive, int(self.batch_size_per_image * self.positive_fraction), generator)
        negative = _some(negative, self.batch_size_per_image - len(positive), generator)
        nothing = torch.zeros_like(matched, dtype=torch.uint8)
        return nothing.index_fill(0, positive, 1), nothing.index_fill(0, negative, 1)


class IoUBalancedSampler:
    """Libra R-CNN's choice of regions (Pang et al., CVPR 2019), with generators as in ``BalancedSampler``.

    Positives: as many of each object, ``round(P / objects) + 1`` of them, where there are more than the P wanted.
    Negatives: a third of those wanted from each third of the overlaps that they may have with an object, from 0 to
    ``limit``. What is missing is filled up from the others at random.

    The paper splits the overlaps of negatives, so ``limit`` is where these end (0.5). Its release splits those of all
    regions, to which the objects themselves were added: ``limit`` is 1, and no negative is in the last third. In both
    readings regions that overlap nothing belong to the first third, as the authors meant it; in mmdetection, from
    version 2 on, those are drawn only where there are no others, from the second batch on.

    Args:
        batch_size_per_image: regions of an image.
        positive_fraction: largest share of positives among them.
        limit: overlap (IoU) up to which the thirds reach.
    """

    bins = 3

    def __init__(self, batch_size_per_image: int, positive_fraction: float, limit: float) -> None:
        self.batch_size_per_image = batch_size_per_image
        self.positive_fraction = positive_fraction
        self.limit = limit

    def __call__(
        self, labels: list[Tensor], matched: list[Tensor], regions: list[Tensor], boxes: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Choose positives and negatives of each image.

        Args:
            labels: (R,) an image: at least 1 for positives, 0 for negatives, below for neither.
            matched: (R,) an image: the object that a positive belongs to.
            regions: (R, 4) an image.
            boxes: (B, 4) an image, of its objects.

        Returns:
            Masks (R,) of the positives and of the negatives chosen, a tensor an image.
        """
        images = zip(labels, matched, regions, boxes, _generators(labels), strict=True)
        chosen = [self._choose(*image) for image in images]
        return [positive for positive, _ in chosen], [negative for _, negative in chosen]

    def _choose(
        self, labels: Tensor, matched: Tensor, regions: Tensor, boxes: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        positive, negative = (labels >= 1).nonzero().squeeze(1), (labels == 0).nonzero().squeeze(1)
        wanted = int(self.batch_size_per_image * self.positive_fraction)
        objects = matched[positive]
        quota = round(wanted / max(1, len(objects.unique()))) + 1
        positive = positive[_some_of_each(objects, quota, wanted, generator)]

        wanted = self.batch_size_per_image - len(positive)
        overlap = box_iou(regions[negative], boxes).amax(1) if len(boxes) else regions.new_zeros(len(negative))
        third = (overlap * (self.bins / self.limit)).long().clamp(0, self.bins - 1)
        negative = negative[_some_of_each(third, wanted // self.bins, wanted, generator)]
        nothing = torch.zeros_like(labels, dtype=torch.uint8)
        return nothing.index_fill(0, positive, 1), nothing.index_fill(0, negative, 1)


SAMPLERS: dict[str, Callable[[int, float, float], Any]] = {
    "random": lambda size, share, _: BalancedSampler(size, share),
    "iou_balanced": IoUBalancedSampler,
    "iou_balanced_release": lambda size, share, _: IoUBalancedSampler(size, share, 1.0),
}
"""How regions are chosen for the second stage's losses: (regions an image, largest share of positives, overlap
below which they are negative) -> sampler."""


def seeded(given: BalancedPositiveNegativeSampler) -> BalancedSampler:
    """Return a ``BalancedSampler`` with the settings of torchvision's."""
    return BalancedSampler(given.batch_size_per_image, given.positive_fraction)


def _generators(per_image: list[Tensor]) -> Iterator[torch.Generator]:
    seed = int(torch.randint(2**62, ()))
    first = distributed.rank() * len(per_image)
    for place, tensor in enumerate(per_image, start=first):
        yield torch.Generator(tensor.device).manual_seed(seed + place)


def _some(indices: Tensor, count: int, generator: torch.Generator) -> Tensor:
    order = torch.randperm(len(indices), generator=generator, device=indices.device)
    return indices[order[:count]]


def _some_of_each(groups: Tensor, quota: int, count: int, generator: torch.Generator) -> Tensor:
    """Choose ``count`` things at random: first up to ``quota`` of each group, then any others.

    Args:
        groups: (n,) the group of each thing.
        quota: largest number of each group that comes first.
        count: how many to choose; all of them where they are fewer.
        generator: of the device that ``groups`` is on.

    Returns:
        Their indices, (min(n, count),).
    """
    order = torch.randperm(len(groups), generator=generator, device=groups.device)
    ordered, place = groups[order].sort(stable=True)
    rank = torch.arange(len(groups), device=groups.device) - torch.searchsorted(ordered, ordered)  # within its group
    early = torch.empty_like(rank).index_copy_(0, place, rank) < quota
    return torch.cat((order[early], order[~early]))[:count]
