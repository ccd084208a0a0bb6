"""Detectors by name, each of a backbone, a neck and heads."""

from drfpn.detectors.base import DetectionModel, Detector
from drfpn.detectors.build import DETECTORS, build_detector, list_models, parse_name
from drfpn.detectors.cascade_rcnn import cascade_mask_rcnn, cascade_rcnn
from drfpn.detectors.faster_rcnn import faster_rcnn
from drfpn.detectors.fcos import fcos
from drfpn.detectors.mask_rcnn import mask_rcnn
from drfpn.detectors.replace_neck import replace_neck
from drfpn.detectors.retinanet import retinanet

__all__ = [
    "DETECTORS",
    "DetectionModel",
    "Detector",
    "build_detector",
    "cascade_mask_rcnn",
    "cascade_rcnn",
    "faster_rcnn",
    "fcos",
    "list_models",
    "mask_rcnn",
    "parse_name",
    "replace_neck",
    "retinanet",
]
