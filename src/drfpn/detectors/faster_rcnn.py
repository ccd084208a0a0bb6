"""Faster R-CNN (Ren et al., NeurIPS 2015) with mmdetection's head sizes, based on torchvision's classes."""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool

from drfpn.backbones import TimmBackbone
from drfpn.detectors.anchors import AnchorGenerator
from drfpn.detectors.augfpn import ROI_POOLS, BackboneWithLaterals, ConsistentSupervision
from drfpn.detectors.backbone_with_neck import BackboneWithNeck
from drfpn.detectors.base import Detector
from drfpn.detectors.losses import BOX_LOSSES
from drfpn.detectors.postprocess import PaddedDetections
from drfpn.detectors.roi_heads import RoIHeads
from drfpn.detectors.rpn import RegionProposalNetwork, RPNHead
from drfpn.detectors.samplers import SAMPLERS
from drfpn.necks import AugFPN, Neck
from drfpn.utils.choices import choose
from drfpn.utils.errors import UsageError


class BoxPredictor(nn.Module):
    """Predicts class logits and deltas of RoIs, with deltas for foreground classes only.

    torchvision also predicts deltas for the background, which have no loss; mmdetection and the paper's parameter
    counts do not. Here the background's deltas are zeros, since torchvision's loss expects them.

    Args:
        in_channels: length of the feature vector of an RoI.
        num_classes: number of foreground classes.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(in_channels, num_classes + 1)
        self.bbox_pred = nn.Linear(in_channels, num_classes * 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map features (R, in_channels) to class logits (R, K + 1) and deltas (R, 4 (K + 1))."""
        x = x.flatten(1)
        return self.cls_score(x), F.pad(self.bbox_pred(x), (4, 0))


class FasterRCNN(Detector, detection.FasterRCNN):
    """torchvision's Faster R-CNN with inference in tensors of fixed size; Mask and Cascade R-CNN are this class too.

    Args:
        backbone: backbone with its neck.
        num_classes: number of foreground classes; torchvision's argument of this name also counts the background.
        options: further arguments of torchvision's class, with ``box_predictor``.
    """

    rpn: RegionProposalNetwork
    roi_heads: Any
    """``RoIHeads``, or ``CascadeRoIHeads``."""

    def __init__(self, backbone: BackboneWithNeck, num_classes: int, **options: Any) -> None:
        super().__init__(backbone, **options)
        self.num_classes = num_classes
        self.rpn = RegionProposalNetwork.from_torchvision(self.rpn)
        self.roi_heads = RoIHeads.from_heads(self.roi_heads)

    @property
    def cell_anchors(self) -> list[Tensor]:
        """Anchors (A, 4) of each level, centered at the origin."""
        cell_anchors: list[Tensor] = self.rpn.anchor_generator.cell_anchors
        return cell_anchors

    @property
    def dense_head(self) -> nn.Module:
        """Head of the RPN."""
        head: nn.Module = self.rpn.head
        return head

    @property
    def roi_stages(self) -> Sequence[RoIHeads]:
        """RoI heads of each stage."""
        return tuple(self.roi_heads.stages)

    @property
    def score_threshold(self) -> float:
        """Score threshold of detections."""
        return float(self.roi_stages[-1].score_thresh)

    @property
    def fg_iou_threshold(self) -> float:
        """IoU from which an anchor of the RPN is positive."""
        return float(self.rpn.proposal_matcher.high_threshold)

    def predict(self, features: dict[str, Tensor], images: ImageList) -> PaddedDetections:
        """Return the detections of a batch, see :meth:`drfpn.detectors.base.Detector.predict`."""
        proposals, valid = self.rpn.padded_proposals(features, images)
        detections: PaddedDetections = self.roi_heads.predict(features, proposals, valid, images)
        return detections


def last_level_max_pool(body: TimmBackbone, width: int) -> ExtraFPNBlock:
    """Return the extra level of two-stage detectors: "pool", the coarsest level subsampled by max pooling."""
    return LastLevelMaxPool()


def faster_rcnn(
    body: TimmBackbone,
    neck: Neck,
    num_classes: int,
    *,
    representation_size: int = 1024,
    anchor_scale: float = 8,
    box_loss: str = "smooth_l1",
    sampler: str = "random",
    roi_pool: str = "level",
    consistent_supervision: float = 0,
    **options: Any,
) -> FasterRCNN:
    """Build Faster R-CNN on a backbone and a neck.

    Args:
        body: backbone.
        neck: neck with a level "pool" or coarser levels of its own.
        num_classes: number of foreground classes, without background; labels are 1..num_classes.
        representation_size: width of the two hidden layers of the box head.
        anchor_scale: side of the anchors of a level, in strides of that level (8: 32 px on P2); a neck that starts at
            P3 has anchors of the same sides as one that starts at P2.
        box_loss: box loss of the RoI heads, a key of ``BOX_LOSSES``: ``"smooth_l1"``, or ``"balanced_l1"`` of Libra
            R-CNN.
        sampler: sampler of the RoIs that the losses are computed from, a key of ``SAMPLERS``: ``"random"``,
            ``"iou_balanced"`` of Libra R-CNN, or ``"iou_balanced_release"`` as in its released code.
        roi_pool: levels that RoIs are pooled from, a key of ``ROI_POOLS``: ``"level"``, the level of the RoI's size, or
            ``"soft"``, all levels (AugFPN).
        consistent_supervision: weight of the losses of each lateral of AugFPN (0.25 in the paper); 0: none.
        options: arguments of ``torchvision.models.detection.FasterRCNN``, such as ``min_size`` (800), ``max_size``
            (1333), ``box_score_thresh`` (0.05), ``box_detections_per_img`` (100).

    Raises:
        UsageError: an unknown loss, sampler or pool, a negative weight, or consistent supervision of a neck that is not
            AugFPN.
    """
    changes = {"box_loss": choose("box_loss", box_loss, BOX_LOSSES), "sampler": choose("sampler", sampler, SAMPLERS)}
    width = neck.out_channels
    backbone = (
        BackboneWithLaterals(body, _check_laterals(neck, consistent_supervision), width)
        if consistent_supervision
        else BackboneWithNeck(body, neck, width)
    )
    levels = backbone.out_levels()
    pool = choose("roi_pool", roi_pool, ROI_POOLS)(levels[: len(body.channels)], 7, width)
    sides = [round(anchor_scale * 4 * 2**i) for i in range(len(levels))]
    options = {"image_mean": list(body.mean), "image_std": list(body.std)} | options
    model = FasterRCNN(
        backbone,
        num_classes,
        rpn_anchor_generator=AnchorGenerator(tuple((side,) for side in sides), ((0.5, 1.0, 2.0),) * len(levels)),
        rpn_head=RPNHead(width, 3),
        box_roi_pool=pool,
        box_head=TwoMLPHead(width * 7 * 7, representation_size),
        box_predictor=BoxPredictor(representation_size, num_classes),
        **options,
    )
    auxiliary = None
    if consistent_supervision:
        head = TwoMLPHead(width * 7 * 7, representation_size)
        predictor = BoxPredictor(representation_size, num_classes)
        auxiliary = ConsistentSupervision(pool, head, predictor, consistent_supervision)
    model.roi_heads = RoIHeads.from_heads(model.roi_heads, auxiliary=auxiliary, **changes)
    return model


def _check_laterals(neck: nn.Module, weight: float) -> AugFPN:
    if not isinstance(weight, int | float) or weight < 0:
        raise UsageError(f"`consistent_supervision` is a weight and must be 0 or more, not {weight!r}.")
    if not isinstance(neck, AugFPN):
        raise UsageError(
            f"`consistent_supervision` needs the laterals of the neck 'augfpn', not of {type(neck).__name__}."
        )
    return neck
