"""The region proposal network (RPN) of the two-stage detectors."""

from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import rpn as torchvision_rpn
from torchvision.models.detection.image_list import ImageList

from drfpn.detectors.postprocess import apply_deltas, gather_rows, permute_and_flatten
from drfpn.detectors.samplers import BalancedSampler
from drfpn.ops import PADDING_SCORE, batched_padded_nms, padded_topk
from drfpn.utils import distributed


class RPNHead(torchvision_rpn.RPNHead):
    """torchvision's RPN head with outputs in float32: half precision would move proposals by pixels.

    Args:
        in_channels: channels of the levels.
        num_anchors: anchors at each point.
    """

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return logits (N, A, H, W) and deltas (N, 4 A, H, W) of each level (N, C, H, W)."""
        logits, deltas = super().forward(x)
        return [level.float() for level in logits], [level.float() for level in deltas]


class RegionProposalNetwork(torchvision_rpn.RegionProposalNetwork):
    """torchvision's RPN, with inference in tensors of fixed size.

    With several processes, losses are scaled so that their mean over the processes is the loss of the whole batch.

    Args:
        anchor_generator: an ``AnchorGenerator``.
        head: an ``RPNHead``.
        batch_size_per_image: anchors of each image that the losses are computed from.
        positive_fraction: largest fraction of positives among them.
        settings: further arguments of torchvision's class.
    """

    def __init__(
        self,
        anchor_generator: nn.Module,
        head: nn.Module,
        *,
        batch_size_per_image: int,
        positive_fraction: float,
        **settings: Any,
    ) -> None:
        super().__init__(
            anchor_generator,
            head,
            batch_size_per_image=batch_size_per_image,
            positive_fraction=positive_fraction,
            **settings,
        )
        self.fg_bg_sampler: Any = BalancedSampler(batch_size_per_image, positive_fraction)

    @classmethod
    def from_torchvision(cls, rpn: torchvision_rpn.RegionProposalNetwork) -> Self:
        """Return a new RPN with the modules and settings of torchvision's."""
        return cls(
            rpn.anchor_generator,
            rpn.head,
            fg_iou_thresh=rpn.proposal_matcher.high_threshold,
            bg_iou_thresh=rpn.proposal_matcher.low_threshold,
            batch_size_per_image=rpn.fg_bg_sampler.batch_size_per_image,
            positive_fraction=rpn.fg_bg_sampler.positive_fraction,
            pre_nms_top_n=rpn._pre_nms_top_n,
            post_nms_top_n=rpn._post_nms_top_n,
            nms_thresh=rpn.nms_thresh,
            score_thresh=rpn.score_thresh,
        )

    def compute_loss(
        self, objectness: Tensor, pred_bbox_deltas: Tensor, labels: list[Tensor], regression_targets: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Compute the losses of the sampled anchors.

        Args:
            objectness: logits (N * A, 1).
            pred_bbox_deltas: (N * A, 4).
            labels: (A,) per image: 1 for positives, 0 for negatives, below 0 for ignored anchors.
            regression_targets: (A, 4) per image, deltas to the matched ground-truth boxes.

        Returns:
            Objectness loss and box loss.
        """
        positive, negative = (torch.cat(masks).bool() for masks in self.fg_bg_sampler(labels))
        sampled = positive | negative
        box_targets = torch.cat(regression_targets)[positive]
        count = sampled.sum()
        box_loss = F.smooth_l1_loss(pred_bbox_deltas[positive], box_targets, beta=1 / 9, reduction="sum") / count
        logits, is_object = objectness.flatten()[sampled], torch.cat(labels)[sampled]
        scale = distributed.loss_scale(count)
        return F.binary_cross_entropy_with_logits(logits, is_object) * scale, box_loss * scale

    def padded_proposals(self, features: dict[str, Tensor], images: ImageList) -> tuple[Tensor, Tensor]:
        """Return proposals as torchvision's RPN does, in tensors of fixed size.

        NMS is applied to each level, and only the best anchors of a level are decoded.

        Args:
            features: levels (N, C, H, W) by name, finest first.
            images: padded batch, and the sizes of its images.

        Returns:
            Proposals (N, P, 4) in pixels of the padded batch, and a mask (N, P) that is false for padding.
        """
        levels = list(features.values())
        anchors = self.anchor_generator.per_level(levels, images.tensors.shape[-2:])
        proposals: list[tuple[Tensor, Tensor]] = []
        for logits, deltas, level_anchors in zip(*self.head(levels), anchors, strict=True):
            objectness = permute_and_flatten(logits, 1).squeeze(-1).sigmoid()
            scores, index = padded_topk(objectness, self.pre_nms_top_n())  # (N, k)
            top_deltas = gather_rows(permute_and_flatten(deltas, 4), index)
            boxes = apply_deltas(self.box_coder, top_deltas, level_anchors[index])
            scores = torch.where(scores >= self.score_thresh, scores, PADDING_SCORE)
            boxes, scores, _ = batched_padded_nms(
                boxes,
                scores,
                torch.zeros_like(index),
                images.image_sizes,
                iou_threshold=self.nms_thresh,
                max_detections=self.post_nms_top_n(),
                min_size=self.min_size,
            )
            proposals.append((boxes, scores))
        boxes, scores = (torch.cat(parts, dim=1) for parts in zip(*proposals, strict=True))
        scores, index = padded_topk(scores, self.post_nms_top_n())
        return gather_rows(boxes, index), scores > PADDING_SCORE
