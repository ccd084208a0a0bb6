"""Where objects may be: the region proposal network."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection import rpn as torchvision_rpn
from torchvision.models.detection.image_list import ImageList

from drfpn.detectors.postprocess import per_anchor, rows
from drfpn.detectors.samplers import seeded
from drfpn.necks.augfpn import LATERAL
from drfpn.ops import PADDING_SCORE, batched_padded_nms, padded_topk
from drfpn.utils import distributed


class FloatRPNHead(torchvision_rpn.RPNHead):
    """torchvision's head with results in float32: half precision would move proposals by pixels."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return logits (N, A, H, W) and deltas (N, 4 A, H, W) of each level."""
        logits, deltas = super().forward(x)
        return [level.float() for level in logits], [level.float() for level in deltas]


class RegionProposalNetwork(torchvision_rpn.RegionProposalNetwork):
    """torchvision's network, whose losses are this process's part of those of the batch of all processes."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.fg_bg_sampler: Any = seeded(self.fg_bg_sampler)

    def forward(
        self, images: ImageList, features: dict[str, Tensor], targets: list[dict[str, Tensor]] | None = None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Return the regions of each image and the losses; laterals that follow the levels have no anchors."""
        levels = {name: level for name, level in features.items() if not name.startswith(LATERAL)}
        return super().forward(images, levels, targets)

    def compute_loss(
        self, objectness: Tensor, pred_bbox_deltas: Tensor, labels: list[Tensor], regression_targets: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return the losses of objectness and of boxes, of the anchors chosen."""
        positive, negative = (torch.cat(masks).bool() for masks in self.fg_bg_sampler(labels))
        chosen = positive | negative
        wanted = torch.cat(regression_targets)[positive]
        count = chosen.sum()
        box_loss = F.smooth_l1_loss(pred_bbox_deltas[positive], wanted, beta=1 / 9, reduction="sum") / count
        logits, is_object = objectness.flatten()[chosen], torch.cat(labels)[chosen]
        part = distributed.loss_scale(count)
        return F.binary_cross_entropy_with_logits(logits, is_object) * part, box_loss * part


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
    anchors = settings.anchor_generator.of_levels(levels, images.tensors.shape[-2:])
    for logits, deltas, around in zip(*settings.head(levels), anchors, strict=True):
        scores, index = padded_topk(per_anchor(logits, 1).squeeze(-1).sigmoid(), settings.pre_nms_top_n())  # (N, k)
        boxes = decode(settings.box_coder, rows(per_anchor(deltas, 4), index), around[index])
        scores = torch.where(scores >= settings.score_thresh, scores, PADDING_SCORE)
        boxes, scores, _ = batched_padded_nms(
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
    scores, index = padded_topk(scores, settings.post_nms_top_n())
    return rows(boxes, index), scores > PADDING_SCORE


def decode(coder: Any, deltas: Tensor, boxes: Tensor) -> Tensor:
    """Apply deltas (..., 4) to boxes (..., 4) as torchvision's coder does, without its constants, which it copies."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    dx, dy, dw, dh = (delta / weight for delta, weight in zip(deltas.unbind(-1), coder.weights, strict=True))
    width, height = x2 - x1, y2 - y1
    x, y = dx * width + (x1 + 0.5 * width), dy * height + (y1 + 0.5 * height)
    half_width = 0.5 * (dw.clamp(max=coder.bbox_xform_clip).exp() * width)
    half_height = 0.5 * (dh.clamp(max=coder.bbox_xform_clip).exp() * height)
    return torch.stack((x - half_width, y - half_height, x + half_width, y + half_height), dim=-1)
