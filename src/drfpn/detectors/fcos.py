"""FCOS (Tian et al., ICCV 2019), based on torchvision's classes."""

import math
from typing import Any

import torch
from torch import Tensor
from torchvision.models import detection
from torchvision.models.detection import fcos as torchvision_fcos
from torchvision.models.detection.image_list import ImageList
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.backbones import TimmBackbone
from drfpn.detectors.anchors import AnchorGenerator
from drfpn.detectors.backbone_with_neck import BackboneWithNeck
from drfpn.detectors.one_stage import OneStageDetector
from drfpn.detectors.postprocess import PaddedDetections
from drfpn.detectors.towers import replace_towers
from drfpn.necks import ExtraConvs, Neck
from drfpn.utils import distributed


class FCOS(OneStageDetector, detection.FCOS):
    """torchvision's FCOS with labels 1..K and inference in tensors of fixed size.

    Args:
        backbone: backbone with its neck.
        num_classes: number of foreground classes.
        options: further arguments of torchvision's class.
    """

    def predict(self, features: dict[str, Tensor], images: ImageList) -> PaddedDetections:
        """Return the detections of a batch, see :meth:`drfpn.detectors.base.Detector.predict`."""
        outputs = self.head(list(features.values()))
        scores = (outputs["cls_logits"].sigmoid() * outputs["bbox_ctrness"].sigmoid()).sqrt()
        return self.postprocess(features, images, scores, outputs["bbox_regression"])

    def decode_boxes(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """Return the boxes of the distances (..., 4) to their sides from the centers of anchors (..., 4)."""
        return self.box_coder.decode(deltas, anchors)


class FCOSHead(torchvision_fcos.FCOSHead):
    """torchvision's head (GroupNorm, centerness in the regression branch, GIoU loss) with outputs in float32.

    With several processes, losses are scaled so that their mean over the processes is the loss of the whole batch.

    Args:
        in_channels: channels of the levels.
        num_anchors: points at each position, 1.
        num_classes: number of foreground classes.
    """

    def forward(self, x: list[Tensor]) -> dict[str, Tensor]:
        """Return "cls_logits" (N, P, K), "bbox_regression" (N, P, 4), "bbox_ctrness" (N, P, 1) of all levels."""
        return {name: value.float() for name, value in super().forward(x).items()}

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> dict[str, Tensor]:
        """Compute the classification, box and centerness losses.

        Args:
            targets: ground truth of each image.
            head_outputs: as of :meth:`forward`.
            anchors: (P, 4) per image, squares around the points.
            matched_idxs: (P,) per image, index of the ground-truth box of each point; negative for background.
        """
        scale = distributed.loss_scale((torch.stack(matched_idxs) >= 0).sum())
        losses = super().compute_loss(targets, head_outputs, anchors, matched_idxs)
        return {name: value * scale for name, value in losses.items()}


class FCOSHeadWithIoULoss(FCOSHead):
    """``FCOSHead`` with the paper's IoU loss in place of GIoU.

    As in the authors' code, the box loss of a point is weighted by its centerness.

    Args:
        in_channels: channels of the levels.
        num_anchors: points at each position, 1.
        num_classes: number of foreground classes.
    """

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> dict[str, Tensor]:
        """Compute the losses, see :meth:`FCOSHead.compute_loss`."""
        losses: dict[str, Tensor] = super().compute_loss(targets, head_outputs, anchors, matched_idxs)
        foreground = torch.stack(matched_idxs) >= 0  # (N, P)
        matched_boxes = torch.stack(
            [_matched_boxes(t["boxes"], index) for t, index in zip(targets, matched_idxs, strict=True)]
        )[foreground]
        points = torch.stack(anchors)
        preds = self.box_coder.decode(head_outputs["bbox_regression"], points)[foreground]
        weight = centerness(points[foreground], matched_boxes)
        total = weight.sum()
        mean = (iou_loss(preds, matched_boxes) * weight).sum() / total.clamp(min=1e-6)
        losses["bbox_regression"] = mean * distributed.loss_scale(total, minimum=1e-6)
        return losses


def _matched_boxes(boxes: Tensor, index: Tensor) -> Tensor:
    return boxes[index.clamp(min=0)] if len(boxes) else boxes.new_zeros(len(index), 4)


def centerness(anchors: Tensor, boxes: Tensor) -> Tensor:
    """Return the centerness of points in their boxes, 1 at the center and 0 on the border (FCOS, Eq. 3).

    Args:
        anchors: (P, 4), squares around the points.
        boxes: (P, 4), in which the points lie.
    """
    point = (anchors[:, :2] + anchors[:, 2:]) / 2
    left_top, right_bottom = point - boxes[:, :2], boxes[:, 2:] - point
    smaller, larger = torch.minimum(left_top, right_bottom), torch.maximum(left_top, right_bottom)
    return (smaller / larger).prod(dim=1).clamp(min=0).sqrt()


def iou_loss(preds: Tensor, targets: Tensor) -> Tensor:
    """Return the loss -log(IoU) (P,) of pairs of boxes (P, 4) (UnitBox; FCOS, Eq. 2)."""
    overlap = torch.minimum(preds[:, 2:], targets[:, 2:]) - torch.maximum(preds[:, :2], targets[:, :2])
    intersection = overlap.clamp(min=0).prod(1)
    areas = (preds[:, 2:] - preds[:, :2]).prod(1) + (targets[:, 2:] - targets[:, :2]).prod(1)
    return -(intersection / (areas - intersection).clamp(min=1e-6)).clamp(min=1e-6).log()


def p6_p7_from_n5(body: TimmBackbone, width: int) -> ExtraFPNBlock:
    """Return FCOS's extra levels: P6 and P7 from N5, with a ReLU between them."""
    return ExtraConvs(width, width, source="output", relu=True)


def fcos(
    body: TimmBackbone,
    neck: Neck,
    num_classes: int,
    *,
    center_sampling_radius: float | None = None,
    giou: bool = False,
    towers: str = "convs",
    **options: Any,
) -> FCOS:
    """Build FCOS on a backbone and a neck.

    Args:
        body: backbone, from C3.
        neck: neck with P6 and P7.
        num_classes: number of foreground classes, without background; labels are 1..num_classes.
        center_sampling_radius: only points within this distance of an object's center, in strides, are positive for
            it; ``None``: all points inside its box, as in the authors' code.
        giou: train boxes with the GIoU loss; the authors' code uses -log(IoU).
        towers: layers between the levels and the predictions, a key of ``TOWERS``: ``"convs"``, four convolutions for
            classes and four for boxes, or in place of each one layer that reads all levels: ``"shared"``, a plain
            convolution, or ``"sepc"``.
        options: arguments of ``torchvision.models.detection.FCOS``, such as ``min_size`` (800), ``max_size`` (1333),
            ``score_thresh`` (0.05), ``nms_thresh`` (0.5).

    Raises:
        UsageError: unknown ``towers``.
    """
    backbone = BackboneWithNeck(body, neck, neck.out_channels)
    levels = backbone.out_levels()
    head = (FCOSHead if giou else FCOSHeadWithIoULoss)(neck.out_channels, 1, num_classes)
    replace_towers(head, towers, neck.out_channels)
    defaults = {"image_mean": list(body.mean), "image_std": list(body.std), "score_thresh": 0.05, "nms_thresh": 0.5}
    return FCOS(
        backbone,
        num_classes,
        anchor_generator=AnchorGenerator(tuple((level.stride,) for level in levels), ((1.0,),) * len(levels)),
        head=head,
        center_sampling_radius=math.inf if center_sampling_radius is None else center_sampling_radius,
        **defaults | options,
    )
