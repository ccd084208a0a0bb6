"""Faster R-CNN (Ren et al., NeurIPS 2015) with mmdetection's head sizes, on torchvision's classes."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection import roi_heads as torchvision_roi_heads
from torchvision.models.detection import rpn as torchvision_rpn
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool

from drfpn.backbones import TimmBackbone
from drfpn.detectors.anchors import AnchorGenerator
from drfpn.detectors.augfpn import REGION_POOLS, ConsistentSupervision
from drfpn.detectors.backbone_with_neck import PyramidBackbone
from drfpn.detectors.losses import BOX_LOSSES
from drfpn.detectors.options import choose
from drfpn.detectors.postprocess import PaddedDetections, PaddedInference
from drfpn.detectors.roi_heads import RoIHeads
from drfpn.detectors.rpn import FloatRPNHead, RegionProposalNetwork, propose
from drfpn.detectors.samplers import SAMPLERS
from drfpn.necks import AugFPN, Neck
from drfpn.utils.errors import UserError


class BoxPredictor(nn.Module):
    """Class scores and box deltas of a region of interest, deltas for foreground classes only.

    torchvision also regresses a box for the background, which no loss ever reaches; mmdetection and the paper's
    parameter counts do not. The background's deltas are handed on as zeros, since torchvision's loss expects them.

    Args:
        in_channels: length of a region's feature vector.
        num_classes: foreground classes.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(in_channels, num_classes + 1)
        self.bbox_pred = nn.Linear(in_channels, num_classes * 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Turn features (R, in_channels) into scores (R, K + 1) and deltas (R, 4 (K + 1))."""
        x = x.flatten(1)
        return self.cls_score(x), F.pad(self.bbox_pred(x), (4, 0))


class FasterRCNN(PaddedInference, detection.FasterRCNN):
    """torchvision's Faster R-CNN with ``RegionProposalNetwork``, ``RoIHeads`` and an evaluation of fixed size."""

    rpn: Any
    roi_heads: Any

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.rpn = make_rpn(self.rpn)
        self.roi_heads = make_roi_heads(self.roi_heads)

    def find(self, features: dict[str, Tensor], images: ImageList) -> PaddedDetections:
        """Return what the levels of a batch show, in pixels of the batch."""
        regions, real = propose(self.rpn, features, images)
        found: PaddedDetections = self.roi_heads.find(features, regions, real, images)
        return found


def make_rpn(given: torchvision_rpn.RegionProposalNetwork) -> RegionProposalNetwork:
    """Return a ``RegionProposalNetwork`` with the parts and settings of torchvision's."""
    settings: Any = given
    return RegionProposalNetwork(
        settings.anchor_generator,
        settings.head,
        fg_iou_thresh=settings.proposal_matcher.high_threshold,
        bg_iou_thresh=settings.proposal_matcher.low_threshold,
        batch_size_per_image=settings.fg_bg_sampler.batch_size_per_image,
        positive_fraction=settings.fg_bg_sampler.positive_fraction,
        pre_nms_top_n=settings._pre_nms_top_n,
        post_nms_top_n=settings._post_nms_top_n,
        nms_thresh=settings.nms_thresh,
        score_thresh=settings.score_thresh,
    )


def make_roi_heads(given: torchvision_roi_heads.RoIHeads, **changes: Any) -> RoIHeads:
    """Return ``RoIHeads`` with the parts and settings of torchvision's heads, or of ours, but for ``changes``."""
    settings = {
        "box_roi_pool": given.box_roi_pool,
        "box_head": given.box_head,
        "box_predictor": given.box_predictor,
        "fg_iou_thresh": given.proposal_matcher.high_threshold,
        "bg_iou_thresh": given.proposal_matcher.low_threshold,
        "batch_size_per_image": given.fg_bg_sampler.batch_size_per_image,
        "positive_fraction": given.fg_bg_sampler.positive_fraction,
        "bbox_reg_weights": given.box_coder.weights,
        "score_thresh": given.score_thresh,
        "nms_thresh": given.nms_thresh,
        "detections_per_img": given.detections_per_img,
    }
    if isinstance(given, RoIHeads):
        settings |= {"sampler": given.sampler, "box_loss": given.box_loss}
    return RoIHeads(**settings | changes)


def pooled_level(body: TimmBackbone, width: int) -> ExtraFPNBlock:
    """Return what two-stage detectors add to a pyramid: a max-pooled level "pool" for the largest anchors."""
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
    region_pool: str = "level",
    consistent_supervision: float = 0,
    **options: Any,
) -> FasterRCNN:
    """Assemble Faster R-CNN from a backbone and its pyramid.

    Args:
        body: the backbone.
        neck: its pyramid, with a level "pool" or those that it makes itself.
        num_classes: foreground classes; labels are 1..num_classes.
        representation_size: width of the two hidden layers of the box head.
        anchor_scale: side of a level's anchors in strides of that level (8: 32 px on P2); a pyramid that begins at P3
            has anchors of the same sides as one that begins at P2.
        box_loss: of the second stage, a name of ``BOX_LOSSES``: ``"smooth_l1"`` or Libra R-CNN's ``"balanced_l1"``.
        sampler: how regions are chosen for the second stage's losses, a name of ``SAMPLERS``: ``"random"``, Libra
            R-CNN's ``"iou_balanced"``, or ``"iou_balanced_release"`` as in its code.
        region_pool: where RoIAlign reads a region, a name of ``REGION_POOLS``: on the ``"level"`` of its size, or
            AugFPN's ``"soft"``, on all of them.
        consistent_supervision: weight of the losses of each lateral of AugFPN (0.25 in the paper); 0: none.
        options: handed to ``torchvision.models.detection.FasterRCNN``, such as ``min_size`` (800), ``max_size``
            (1333), ``box_score_thresh`` (0.05), ``box_detections_per_img`` (100).

    Raises:
        UserError: an unknown loss, sampler or pool, a weight below 0, or laterals of another pyramid than AugFPN.
    """
    changes = {"box_loss": choose("box_loss", box_loss, BOX_LOSSES), "sampler": choose("sampler", sampler, SAMPLERS)}
    pool = choose("region_pool", region_pool, REGION_POOLS)(body.strides, 7, neck.out_channels)
    made = getattr(neck, "coarser", None)
    levels = len(body.channels) + max(1, len(made.names) if made else 0)
    side = [round(anchor_scale * 4 * 2**i) for i in range(levels)]
    width = neck.out_channels
    options = {"image_mean": list(body.mean), "image_std": list(body.std)} | options
    model = FasterRCNN(
        PyramidBackbone(body, neck, width),
        rpn_anchor_generator=AnchorGenerator(tuple((s,) for s in side), ((0.5, 1.0, 2.0),) * levels),
        rpn_head=FloatRPNHead(width, 3),
        box_roi_pool=pool,
        box_head=TwoMLPHead(width * 7 * 7, representation_size),
        box_predictor=BoxPredictor(representation_size, num_classes),
        **options,
    )
    auxiliary = None
    if consistent_supervision:
        _hand_on_laterals(neck, consistent_supervision)
        head = TwoMLPHead(width * 7 * 7, representation_size)
        predictor = BoxPredictor(representation_size, num_classes)
        auxiliary = ConsistentSupervision(pool, head, predictor, consistent_supervision)
    model.roi_heads = make_roi_heads(model.roi_heads, auxiliary=auxiliary, **changes)
    return model


def _hand_on_laterals(neck: Neck, weight: float) -> None:
    if not isinstance(weight, int | float) or weight < 0:
        raise UserError(f"consistent_supervision is a weight and must be 0 or more, not {weight!r}.", exit_code=2)
    if not isinstance(neck, AugFPN):
        raise UserError(
            f"'consistent_supervision' needs the laterals of the pyramid 'augfpn', not of {type(neck).__name__}.",
            exit_code=2,
        )
    neck.hands_on_laterals = True
