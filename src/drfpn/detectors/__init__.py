"""Detectors: a backbone, a pyramid and heads, by name."""

from drfpn.detectors.build import DETECTORS, build_detector, list_models, parse_name
from drfpn.detectors.cascade_rcnn import cascade_rcnn
from drfpn.detectors.faster_rcnn import faster_rcnn
from drfpn.detectors.fcos import fcos
from drfpn.detectors.replace import replace_neck
from drfpn.detectors.retinanet import retinanet

__all__ = [
    "DETECTORS",
    "build_detector",
    "cascade_rcnn",
    "faster_rcnn",
    "fcos",
    "list_models",
    "parse_name",
    "replace_neck",
    "retinanet",
]
