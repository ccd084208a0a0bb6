"""Where objects may be: the region proposal network in evaluation."""

from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import clip_boxes_to_image

from drfpn.detectors.inference import level_anchors, per_anchor, rows
from drfpn.ops import NOTHING, suppress, top


def propose(rpn: RegionProposalNetwork, features: dict[str, Tensor], images: ImageList) -> tuple[Tensor, Tensor]:
    """Return the best boxes that may hold an object, as torchvision's network does, with fixed sizes.

    Levels are suppressed one by one, and only boxes that survive the choice within their level are decoded.

    Args:
        rpn: head, anchors and settings.
        features: levels, finest first.
        images: batch and sizes of the images in it.

    Returns:
        Boxes (N, R, 4) in pixels of the batch, and whether each is real or only fills up, (N, R).
    """
    settings: Any = rpn
    levels = list(features.values())
    chosen: list[tuple[Tensor, Tensor]] = []
    anchors = level_anchors(settings.anchor_generator, levels, images.tensors.shape[-2:])
    for logits, deltas, around in zip(*settings.head(levels), anchors, strict=True):
        scores, index = top(per_anchor(logits, 1).squeeze(-1).sigmoid(), settings.pre_nms_top_n())  # (N, k)
        boxes = decode(settings.box_coder, rows(per_anchor(deltas, 4), index), around[index])
        kept = [
            _keep(settings, box, score, size)
            for box, score, size in zip(boxes, scores, images.image_sizes, strict=True)
        ]
        chosen.append((torch.stack([box for box, _ in kept]), torch.stack([score for _, score in kept])))
    boxes, scores = (torch.cat(parts, dim=1) for parts in zip(*chosen, strict=True))
    scores, index = top(scores, settings.post_nms_top_n())
    return rows(boxes, index), scores > NOTHING


def _keep(settings: Any, boxes: Tensor, scores: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return of one level (k boxes) those that no better one covers."""
    boxes = clip_boxes_to_image(boxes, size)
    scores = torch.where((scores >= settings.score_thresh) & large(boxes, settings.min_size), scores, NOTHING)
    groups = torch.zeros_like(scores, dtype=torch.int64)
    scores, index = suppress(boxes, scores, groups, settings.nms_thresh, settings.post_nms_top_n())
    return boxes[index], scores


def decode(coder: Any, deltas: Tensor, boxes: Tensor) -> Tensor:
    """Apply deltas (..., 4) to boxes (..., 4)."""
    return coder.decode_single(deltas.reshape(-1, 4), boxes.reshape(-1, 4)).view(boxes.shape)


def large(boxes: Tensor, side: float) -> Tensor:
    """Return whether both sides of each box (..., 4) are at least ``side`` long."""
    return (boxes[..., 2:] - boxes[..., :2] >= side).all(dim=-1)
