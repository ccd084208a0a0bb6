"""Samplers of the anchors and RoIs that the losses are computed from; each image is sampled independently."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.ops import box_iou

from drfpn.utils import distributed


class BalancedSampler(BalancedPositiveNegativeSampler):
    """torchvision's random sampler with a separate generator for each image.

    Each generator is seeded with one number from the global generator plus the image's index in the batch over all
    processes. So several processes that share a batch draw the samples that a single process would draw, and the global
    generators of the processes stay in step whatever the images contain.

    Args:
        batch_size_per_image: samples of each image.
        positive_fraction: largest fraction of positives among them.
    """

    def __call__(self, matched_idxs: list[Tensor], *_: Any) -> tuple[list[Tensor], list[Tensor]]:
        """Sample positives and negatives of each image.

        Args:
            matched_idxs: (A,) per image: at least 1 for positives, 0 for negatives, below 0 for ignored entries.
            _: further arguments of :class:`IoUBalancedSampler`, which are not used here.

        Returns:
            Masks (A,) of the sampled positives and of the sampled negatives, one of each per image.
        """
        sampled = [
            self._sample(matched, generator)
            for matched, generator in zip(matched_idxs, _generators(matched_idxs), strict=True)
        ]
        return [positive for positive, _ in sampled], [negative for _, negative in sampled]

    def _sample(self, matched: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        positive, negative = (matched >= 1).nonzero().squeeze(1), (matched == 0).nonzero().squeeze(1)
        positive = _sample_uniform(positive, int(self.batch_size_per_image * self.positive_fraction), generator)
        negative = _sample_uniform(negative, self.batch_size_per_image - len(positive), generator)
        mask = torch.zeros_like(matched, dtype=torch.uint8)
        return mask.index_fill(0, positive, 1), mask.index_fill(0, negative, 1)


class IoUBalancedSampler:
    """IoU-balanced sampler of Libra R-CNN (Pang et al., CVPR 2019), with generators as in ``BalancedSampler``.

    Positives: of more than the P to be sampled, up to ``round(P / objects) + 1`` of each object come first.
    Negatives: a third of those to be sampled from each third of the IoU range from 0 to ``max_iou``. Missing samples
    are drawn uniformly from the remaining ones.

    The paper splits the IoU range of the negatives, so ``max_iou`` is the IoU below which RoIs are negative (0.5). Its
    released code splits the range of all RoIs, including the ground-truth boxes: ``max_iou`` is 1, and the last third
    contains no negative. In both cases RoIs with IoU 0 belong to the first third, as the authors intended; mmdetection
    from version 2 on draws those only if there are no others, from the second batch on.

    Args:
        batch_size_per_image: RoIs of each image.
        positive_fraction: largest fraction of positives among them.
        max_iou: upper end of the IoU range that is split into thirds.
    """

    bins = 3

    def __init__(self, batch_size_per_image: int, positive_fraction: float, max_iou: float) -> None:
        self.batch_size_per_image = batch_size_per_image
        self.positive_fraction = positive_fraction
        self.max_iou = max_iou

    def __call__(
        self, labels: list[Tensor], matched_idxs: list[Tensor], proposals: list[Tensor], gt_boxes: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Sample positives and negatives of each image.

        Args:
            labels: (R,) per image: at least 1 for positives, 0 for negatives, below 0 for ignored RoIs.
            matched_idxs: (R,) per image: index of the ground-truth box that a positive is matched with.
            proposals: (R, 4) per image.
            gt_boxes: (B, 4) per image.

        Returns:
            Masks (R,) of the sampled positives and of the sampled negatives, one of each per image.
        """
        images = zip(labels, matched_idxs, proposals, gt_boxes, _generators(labels), strict=True)
        sampled = [self._sample(*image) for image in images]
        return [positive for positive, _ in sampled], [negative for _, negative in sampled]

    def _sample(
        self, labels: Tensor, matched_idxs: Tensor, proposals: Tensor, gt_boxes: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        positive, negative = (labels >= 1).nonzero().squeeze(1), (labels == 0).nonzero().squeeze(1)
        count = int(self.batch_size_per_image * self.positive_fraction)
        objects = matched_idxs[positive]
        quota = round(count / max(1, len(objects.unique()))) + 1
        positive = positive[_sample_balanced(objects, quota, count, generator)]

        count = self.batch_size_per_image - len(positive)
        iou = box_iou(proposals[negative], gt_boxes).amax(1) if len(gt_boxes) else proposals.new_zeros(len(negative))
        iou_bin = (iou * (self.bins / self.max_iou)).long().clamp(0, self.bins - 1)
        negative = negative[_sample_balanced(iou_bin, count // self.bins, count, generator)]
        mask = torch.zeros_like(labels, dtype=torch.uint8)
        return mask.index_fill(0, positive, 1), mask.index_fill(0, negative, 1)


SAMPLERS: dict[str, Callable[[int, float, float], Any]] = {
    "random": lambda size, positive_fraction, _: BalancedSampler(size, positive_fraction),
    "iou_balanced": IoUBalancedSampler,
    "iou_balanced_release": lambda size, positive_fraction, _: IoUBalancedSampler(size, positive_fraction, 1.0),
}
"""Samplers of RoIs by name: (RoIs per image, largest fraction of positives, IoU below which RoIs are negative) ->
sampler."""


def _generators(per_image: list[Tensor]) -> Iterator[torch.Generator]:
    seed = int(torch.randint(2**62, ()))
    first_index = distributed.rank() * len(per_image)
    for index, tensor in enumerate(per_image, start=first_index):
        yield torch.Generator(tensor.device).manual_seed(seed + index)


def _sample_uniform(indices: Tensor, count: int, generator: torch.Generator) -> Tensor:
    order = torch.randperm(len(indices), generator=generator, device=indices.device)
    return indices[order[:count]]


def _sample_balanced(groups: Tensor, quota: int, count: int, generator: torch.Generator) -> Tensor:
    """Sample ``count`` elements: up to ``quota`` of each group come first, then any others.

    Args:
        groups: (n,) group of each element.
        quota: largest number of elements of a group among those that come first.
        count: number of samples; all elements are returned if there are fewer.
        generator: on the device of ``groups``.

    Returns:
        Indices (min(n, count),) of the samples.
    """
    order = torch.randperm(len(groups), generator=generator, device=groups.device)
    ordered, position = groups[order].sort(stable=True)
    rank = torch.arange(len(groups), device=groups.device) - torch.searchsorted(ordered, ordered)  # within its group
    first = torch.empty_like(rank).index_copy_(0, position, rank) < quota
    return torch.cat((order[first], order[~first]))[:count]
