"""Choosing the best of many boxes with tensors whose sizes do not depend on values, so that graphs can be exported."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import clip_boxes_to_image, nms

PADDING_SCORE = -1.0
"""Score of an entry that only fills a tensor up."""


def padded_topk(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the best ``count`` of the last dimension, or all where there are fewer, best first.

    A traced graph cannot know which of the two it will be, so it gets ``count`` in any case, filled up with
    ``PADDING_SCORE``.

    Args:
        scores: (..., n), at least ``PADDING_SCORE``.
        count: how many.

    Returns:
        Scores and indices, (..., count); the indices of fillers are valid but mean nothing.
    """
    if not torch.compiler.is_compiling():
        return scores.topk(min(count, scores.shape[-1]))
    best, index = F.pad(scores, (0, count), value=PADDING_SCORE).topk(count)
    return best, index.clamp(max=scores.shape[-1] - 1)


def padded_nms(boxes: Tensor, scores: Tensor, groups: Tensor, iou: float, count: int) -> tuple[Tensor, Tensor]:
    """Return the best ``count`` boxes that no better box of their group overlaps by more than ``iou``.

    Args:
        boxes: (n, 4), x1, y1, x2, y2, none negative.
        scores: (n,), ``PADDING_SCORE`` for those that are not to be returned.
        groups: (n,) integers from 0; boxes of different groups do not suppress each other.
        iou: overlap allowed.
        count: how many.

    Returns:
        Scores and indices as :func:`padded_topk` does.
    """
    # Every group has a square of the plane to itself: 32 in a row keep coordinates small, since float32 resolves
    # 1/128 px at 100,000. Fillers share one place, where the first removes the others at once.
    side = boxes.max() + 1
    corner = torch.stack((groups % 32, groups // 32), dim=-1) * side
    real = scores > PADDING_SCORE
    filler = (torch.arange(4, device=boxes.device) // 2 - 2).to(boxes.dtype)  # -2, -2, -1, -1, made where it is needed
    spread = torch.where(real[:, None], boxes + corner.repeat(1, 2), filler)
    # torchvision tells a traced graph that at least two boxes are kept: these two always are.
    always = torch.stack((filler, filler - 2))
    padded = F.pad(scores, (0, 2), value=PADDING_SCORE)
    index = nms(torch.cat((spread, always)), padded, iou)
    kept = torch.zeros_like(padded).scatter(0, index, 1.0)[:-2]
    return padded_topk(torch.where((kept > 0) & real, scores, PADDING_SCORE), count)


def batched_padded_nms(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor,
    sizes: Sequence[tuple[int, int]],
    *,
    iou: float,
    count: int,
    min_side: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Clip the boxes of each image to it and :func:`padded_nms` them.

    Args:
        boxes: (N, n, 4)
        scores: (N, n)
        groups: (N, n)
        sizes: height and width of each image.
        iou: overlap allowed.
        count: how many to return of each image.
        min_side: boxes with a shorter side are left out, pixels.

    Returns:
        Boxes, scores and groups of the best of each image, (N, count, ...), filled up as by :func:`padded_topk`.
    """
    kept = []
    for box, score, group, size in zip(boxes, scores, groups, sizes, strict=True):
        box = clip_boxes_to_image(box, size)
        large = (box[:, 2:] - box[:, :2] >= min_side).all(dim=-1)
        score, index = padded_nms(box, torch.where(large, score, PADDING_SCORE), group, iou, count)
        kept.append((box[index], score, group[index]))
    best, their_scores, their_groups = (torch.stack(parts) for parts in zip(*kept, strict=True))
    return best, their_scores, their_groups
