"""Where objects may be: the region proposal network in evaluation."""

from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork

from drfpn.detectors.inference import level_anchors, per_anchor, rows
from drfpn.ops import NOTHING, suppress_batch, top


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
        scores = torch.where(scores >= settings.score_thresh, scores, NOTHING)
        boxes, scores, _ = suppress_batch(
            boxes,
            scores,
            torch.zeros_like(index),
            images.image_sizes,
            iou=settings.nms_thresh,
            count=settings.post_nms_top_n(),
            min_side=settings.min_size,
        )
        chosen.append((boxes, scores))
    boxes, scores = (torch.cat(parts, dim=1) for parts in zip(*chosen, strict=True))
    scores, index = top(scores, settings.post_nms_top_n())
    return rows(boxes, index), scores > NOTHING


def decode(coder: Any, deltas: Tensor, boxes: Tensor) -> Tensor:
    """Apply deltas (..., 4) to boxes (..., 4)."""
    return coder.decode_single(deltas.reshape(-1, 4), boxes.reshape(-1, 4)).view(boxes.shape)
