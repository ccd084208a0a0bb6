"""Base class of the one-stage detectors RetinaNet and FCOS: labels from 1, and post-processing."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from drfpn.detectors.anchors import AnchorGenerator
from drfpn.detectors.base import Detector
from drfpn.detectors.postprocess import PaddedDetections, gather_rows
from drfpn.detectors.roi_heads import RoIHeads
from drfpn.ops import PADDING_SCORE, batched_padded_nms, padded_topk


class OneStageDetector(Detector):
    """Base class of one-stage detectors, with labels 1..K.

    torchvision's one-stage detectors have no background class and count labels from 0, its two-stage detectors from 1.
    Here all detectors count from 1.

    Args:
        backbone: backbone with its neck.
        num_classes: number of foreground classes.
        options: as of torchvision's class.
    """

    anchor_generator: AnchorGenerator
    head: nn.Module
    score_thresh: float
    nms_thresh: float
    topk_candidates: int
    detections_per_img: int
    box_coder: Any
    proposal_matcher: Any

    def __init__(self, backbone: nn.Module, num_classes: int, **options: Any) -> None:
        super().__init__(backbone, num_classes, **options)
        self.num_classes = num_classes

    @property
    def roi_stages(self) -> Sequence[RoIHeads]:
        """None."""
        return ()

    @property
    def dense_head(self) -> nn.Module:
        """The head."""
        return self.head

    @property
    def cell_anchors(self) -> list[Tensor]:
        """Anchors (A, 4) of each level, centered at the origin."""
        return self.anchor_generator.cell_anchors

    @property
    def score_threshold(self) -> float:
        """Score threshold of detections."""
        return self.score_thresh

    @property
    def fg_iou_threshold(self) -> float:
        """IoU from which an anchor is positive."""
        return float(self.proposal_matcher.high_threshold)

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        """Compute losses in training, detections otherwise, see :meth:`Detector.forward`."""
        if targets is not None:
            targets = [{**target, "labels": target["labels"] - 1} for target in targets]
        return super().forward(images, targets)

    def decode_boxes(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """Return the boxes of the deltas (..., 4) of anchors (..., 4)."""
        raise NotImplementedError

    def postprocess(
        self, features: dict[str, Tensor], images: ImageList, scores: Tensor, deltas: Tensor
    ) -> PaddedDetections:
        """Select the best candidates of each level and apply NMS within each class.

        Args:
            features: levels by name, finest first.
            images: padded batch, and the sizes of its images.
            scores: (N, A, K) in [0, 1], of the anchors of all levels.
            deltas: (N, A, 4) of the same anchors.

        Returns:
            Boxes in pixels of the padded batch.
        """
        anchors = self.anchor_generator.per_level(list(features.values()), images.tensors.shape[-2:])
        lengths = [level.shape[0] for level in anchors]  # len() would specialize a symbolic size
        num_classes = scores.shape[-1]
        candidates = []
        levels = zip(anchors, scores.split(lengths, dim=1), deltas.split(lengths, dim=1), strict=True)
        for level_anchors, level_scores, level_deltas in levels:
            level_scores = torch.where(level_scores > self.score_thresh, level_scores, PADDING_SCORE)
            top_scores, index = padded_topk(level_scores.flatten(1), self.topk_candidates)
            anchor = index // num_classes
            boxes = self.decode_boxes(gather_rows(level_deltas, anchor), level_anchors[anchor])
            candidates.append((boxes, top_scores, index % num_classes))
        boxes, scores, labels = (torch.cat(parts, dim=1) for parts in zip(*candidates, strict=True))
        boxes, scores, labels = batched_padded_nms(
            boxes,
            scores,
            labels,
            images.image_sizes,
            iou_threshold=self.nms_thresh,
            max_detections=self.detections_per_img,
        )
        return PaddedDetections(boxes, scores, labels + 1)
