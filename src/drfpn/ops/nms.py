"""Top-k selection and non-maximum suppression with results of fixed size, so that detectors can be exported."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import clip_boxes_to_image, nms

PADDING_SCORE = -1.0
"""Score of an entry that only pads a result to its fixed size."""


def padded_topk(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the ``k`` largest scores of the last dimension, or all if there are fewer, in descending order.

    In a traced graph the result always has ``k`` entries, padded with ``PADDING_SCORE``.

    Args:
        scores: (..., n), at least ``PADDING_SCORE``.
        k: number of scores.

    Returns:
        Scores and indices, (..., k); indices of padding are valid but arbitrary.
    """
    if not torch.compiler.is_compiling():
        return scores.topk(min(k, scores.shape[-1]))
    best, index = F.pad(scores, (0, k), value=PADDING_SCORE).topk(k)
    return best, index.clamp(max=scores.shape[-1] - 1)


def padded_nms(
    boxes: Tensor, scores: Tensor, classes: Tensor, iou_threshold: float, max_detections: int
) -> tuple[Tensor, Tensor]:
    """Return the best boxes that remain after non-maximum suppression within each class.

    Args:
        boxes: (n, 4), x1, y1, x2, y2, not negative.
        scores: (n,), ``PADDING_SCORE`` for boxes that are left out.
        classes: (n,) integers from 0; boxes of different classes do not suppress each other.
        iou_threshold: boxes with a larger IoU than this with a better box are suppressed.
        max_detections: number of boxes returned.

    Returns:
        Scores and indices, (max_detections,), as from :func:`padded_topk`.
    """
    # Each class is shifted to a square of its own, 32 in a row, which keeps coordinates small: float32 resolves 1/128
    # px at 100,000. All left-out boxes share one position, where the first suppresses the others.
    side = boxes.max() + 1
    corner = torch.stack((classes % 32, classes // 32), dim=-1) * side
    real = scores > PADDING_SCORE
    filler = (torch.arange(4, device=boxes.device) // 2 - 2).to(boxes.dtype)  # -2, -2, -1, -1, without a copy to a GPU
    shifted = torch.where(real[:, None], boxes + corner.repeat(1, 2), filler)
    # torchvision's operator promises a traced graph at least two boxes: these two always remain
    remaining = torch.stack((filler, filler - 2))
    padded = F.pad(scores, (0, 2), value=PADDING_SCORE)
    index = nms(torch.cat((shifted, remaining)), padded, iou_threshold)
    selected = torch.zeros_like(padded).scatter(0, index, 1.0)[:-2]
    return padded_topk(torch.where((selected > 0) & real, scores, PADDING_SCORE), max_detections)


def batched_padded_nms(
    boxes: Tensor,
    scores: Tensor,
    classes: Tensor,
    image_sizes: Sequence[tuple[int, int]],
    *,
    iou_threshold: float,
    max_detections: int,
    min_size: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Clip the boxes of each image of a batch to it and run :func:`padded_nms`.

    Args:
        boxes: (N, n, 4), x1, y1, x2, y2 in pixels.
        scores: (N, n).
        classes: (N, n).
        image_sizes: height and width of each image.
        iou_threshold: as of :func:`padded_nms`.
        max_detections: boxes returned of each image.
        min_size: boxes with a shorter side are left out, pixels.

    Returns:
        Boxes (N, max_detections, 4), scores and classes (N, max_detections), padded as by :func:`padded_topk`.
    """
    results = []
    for box, score, class_, size in zip(boxes, scores, classes, image_sizes, strict=True):
        box = clip_boxes_to_image(box, size)
        large = (box[:, 2:] - box[:, :2] >= min_size).all(dim=-1)
        score, index = padded_nms(box, torch.where(large, score, PADDING_SCORE), class_, iou_threshold, max_detections)
        results.append((box[index], score, class_[index]))
    best_boxes, best_scores, best_classes = (torch.stack(parts) for parts in zip(*results, strict=True))
    return best_boxes, best_scores, best_classes
