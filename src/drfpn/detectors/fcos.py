"""FCOS (Tian et al., ICCV 2019) on torchvision's classes."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.image_list import ImageList
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.backbones import TimmBackbone
from drfpn.detectors.anchors import AnchorGenerator
from drfpn.detectors.backbone_with_neck import PyramidBackbone
from drfpn.detectors.labels import LabelsFromOne
from drfpn.detectors.one_stage import postprocess_dense
from drfpn.detectors.postprocess import PaddedDetections, PaddedInference
from drfpn.detectors.towers import set_towers
from drfpn.necks import ExtraConvs, Neck
from drfpn.utils import distributed


class FCOS(LabelsFromOne, PaddedInference, detection.FCOS):
    """torchvision's FCOS with labels 1..K and an evaluation of fixed size."""

    def find(self, features: dict[str, Tensor], images: ImageList) -> PaddedDetections:
        """Return what the levels of a batch show, in pixels of the batch."""
        outputs = self.head(list(features.values()))
        scores = (outputs["cls_logits"].sigmoid() * outputs["bbox_ctrness"].sigmoid()).sqrt()
        return postprocess_dense(self, features, images, scores, outputs["bbox_regression"])

    def decode(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """Apply deltas (..., 4) to anchors (..., 4)."""
        return self.box_coder.decode(deltas, anchors)


class GIoUHead(FCOSHead):
    """torchvision's head (GroupNorm, centre-ness beside the box), results in float32.

    Its losses are this process's part of those of the batch of all processes.
    """

    def forward(self, x: list[Tensor]) -> dict[str, Tensor]:
        """Return what torchvision's head does of the levels (N, channels, H, W)."""
        return {name: value.float() for name, value in super().forward(x).items()}

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> dict[str, Tensor]:
        """Return the three loss terms; ``matched_idxs`` (points,) an image name an object or are negative."""
        part = distributed.loss_scale((torch.stack(matched_idxs) >= 0).sum())
        losses = super().compute_loss(targets, head_outputs, anchors, matched_idxs)
        return {name: value * part for name, value in losses.items()}


class IoUHead(GIoUHead):
    """The head with the paper's IoU loss in place of GIoU.

    As in the release, a point counts by its centre-ness: one near the border of its object hardly moves the box.
    """

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> dict[str, Tensor]:
        """Return the three loss terms; ``matched_idxs`` (points,) an image name an object or are negative."""
        losses: dict[str, Tensor] = super().compute_loss(targets, head_outputs, anchors, matched_idxs)
        matched = torch.stack(matched_idxs)  # (N, points)
        wanted = torch.stack([_boxes_of(t["boxes"], index) for t, index in zip(targets, matched_idxs, strict=True)])
        foreground = matched >= 0
        around = torch.stack(anchors)
        found = self.box_coder.decode(head_outputs["bbox_regression"], around)[foreground]
        weight = centreness(around[foreground], wanted[foreground])
        total = weight.sum()
        mean = (iou_loss(found, wanted[foreground]) * weight).sum() / total.clamp(min=1e-6)
        losses["bbox_regression"] = mean * distributed.loss_scale(total, least=1e-6)
        return losses


def _boxes_of(boxes: Tensor, index: Tensor) -> Tensor:
    return boxes[index.clamp(min=0)] if len(boxes) else boxes.new_zeros(len(index), 4)


def centreness(anchors: Tensor, boxes: Tensor) -> Tensor:
    """Return how near the middle of its box each point lies, 1 in the middle and 0 on the border (Eq. 3 of FCOS).

    Args:
        anchors: (P, 4), squares around the points.
        boxes: (P, 4), in which the points lie.
    """
    point = (anchors[:, :2] + anchors[:, 2:]) / 2
    before, behind = point - boxes[:, :2], boxes[:, 2:] - point  # left and top, right and bottom
    nearer, farther = torch.minimum(before, behind), torch.maximum(before, behind)
    return (nearer / farther).prod(dim=1).clamp(min=0).sqrt()


def iou_loss(found: Tensor, wanted: Tensor) -> Tensor:
    """Return -log(IoU) of each pair of boxes, (P, 4) and (P, 4) -> (P,) (UnitBox; Eq. 2 of FCOS)."""
    corner = torch.minimum(found[:, 2:], wanted[:, 2:]) - torch.maximum(found[:, :2], wanted[:, :2])
    shared = corner.clamp(min=0).prod(1)
    area = (found[:, 2:] - found[:, :2]).prod(1) + (wanted[:, 2:] - wanted[:, :2]).prod(1) - shared
    return -(shared / area.clamp(min=1e-6)).clamp(min=1e-6).log()


def p6_p7_from_n5(body: TimmBackbone, width: int) -> ExtraFPNBlock:
    """Return what FCOS adds to a pyramid: P6 and P7 from its coarsest level, with a ReLU between."""
    return ExtraConvs(width, width, source="output", relu=True)


def fcos(
    body: TimmBackbone,
    neck: Neck,
    num_classes: int,
    *,
    centre_sampling: float | None = None,
    giou: bool = False,
    towers: str = "convs",
    **options: Any,
) -> nn.Module:
    """Assemble FCOS from a backbone and its pyramid.

    Args:
        body: the backbone, from C3.
        neck: its pyramid, with P6 and P7.
        num_classes: foreground classes; labels are 1..num_classes.
        centre_sampling: only points within so many strides of an object's centre belong to it; ``None``: all points
            inside of its box, as in the release.
        giou: regress boxes by generalised IoU; the release takes -log(IoU).
        towers: what levels pass before classes and boxes are predicted, a name of ``TOWERS``: ``"convs"``, four
            convolutions each, or in their place one layer that all levels share: ``"shared"``, plain, or ``"sepc"``.
        options: handed to ``torchvision.models.detection.FCOS``, such as ``min_size`` (800), ``max_size`` (1333),
            ``score_thresh`` (0.05), ``nms_thresh`` (0.5).

    Raises:
        UserError: unknown towers.
    """
    head = (GIoUHead if giou else IoUHead)(neck.out_channels, 1, num_classes)
    set_towers(head, towers, neck.out_channels)
    defaults = {"image_mean": list(body.mean), "image_std": list(body.std), "score_thresh": 0.05, "nms_thresh": 0.5}
    return FCOS(
        PyramidBackbone(body, neck, neck.out_channels),
        num_classes,
        anchor_generator=AnchorGenerator(tuple((stride,) for stride in (*body.strides, 64, 128)), ((1.0,),) * 5),
        head=head,
        center_sampling_radius=math.inf if centre_sampling is None else centre_sampling,
        **defaults | options,
    )
