"""Mask R-CNN (He et al., ICCV 2017) with mmdetection's head sizes, on torchvision's classes."""

from typing import Any

from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from drfpn.backbones import TimmBackbone
from drfpn.detectors.faster_rcnn import FasterRCNN, faster_rcnn
from drfpn.detectors.roi_heads import RoIHeads
from drfpn.necks import Neck


def add_masks(heads: RoIHeads, width: int, num_classes: int) -> None:
    """Give heads a mask branch: RoIAlign to 14, four 3x3 convolutions, a transposed one to 28, a 1x1 to classes.

    torchvision's and the paper's, but without a channel for the background, which no loss ever reaches.
    """
    heads.mask_roi_pool = heads.box_roi_pool.resized(14)
    heads.mask_head = MaskRCNNHeads(width, (width,) * 4, dilation=1)
    heads.mask_predictor = MaskRCNNPredictor(width, width, num_classes)


def mask_rcnn(body: TimmBackbone, neck: Neck, num_classes: int, **options: Any) -> FasterRCNN:
    """Assemble Mask R-CNN from a backbone and its pyramid.

    Targets hold "masks" (N, H, W) of 0 and 1; outputs "masks" (D, 1, H, W), the probability of each pixel.

    Args: as for :func:`drfpn.detectors.faster_rcnn`.
    """
    model = faster_rcnn(body, neck, num_classes, **options)
    add_masks(model.roi_heads, neck.out_channels, num_classes)
    return model
