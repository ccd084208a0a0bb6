"""Mask R-CNN (He et al., ICCV 2017) with mmdetection's head sizes, based on torchvision's classes."""

from typing import Any

from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from drfpn.backbones import TimmBackbone
from drfpn.detectors.faster_rcnn import FasterRCNN, faster_rcnn
from drfpn.detectors.roi_heads import RoIHeads
from drfpn.necks import Neck


def add_mask_head(heads: RoIHeads, width: int, num_classes: int) -> None:
    """Add a mask head: RoIAlign to 14x14, four 3x3 convolutions, a transposed one to 28x28, a 1x1 to the classes.

    As in torchvision and the paper, but without a channel for the background, which has no loss.

    Args:
        heads: RoI heads, changed in place.
        width: channels of the levels.
        num_classes: number of foreground classes.
    """
    heads.mask_roi_pool = heads.box_roi_pool.with_output_size(14)
    heads.mask_head = MaskRCNNHeads(width, (width,) * 4, dilation=1)
    heads.mask_predictor = MaskRCNNPredictor(width, width, num_classes)


def mask_rcnn(body: TimmBackbone, neck: Neck, num_classes: int, **options: Any) -> FasterRCNN:
    """Build Mask R-CNN on a backbone and a neck.

    Targets contain "masks" (B, H, W) of 0 and 1, outputs "masks" (D, 1, H, W) of probabilities.

    Args:
        body: backbone.
        neck: neck with a level "pool" or coarser levels of its own.
        num_classes: number of foreground classes, without background; labels are 1..num_classes.
        options: as of :func:`drfpn.detectors.faster_rcnn`.
    """
    model = faster_rcnn(body, neck, num_classes, **options)
    add_mask_head(model.roi_heads, neck.out_channels, num_classes)
    return model
