"""Data sets: formats, one target dict, checks, and synthetic shapes."""

from drfpn.data.annotations import Annotations
from drfpn.data.base import DetectionDataset, Target
from drfpn.data.boxes import clean
from drfpn.data.check import Finding, check_dataset
from drfpn.data.convert import Converted, convert
from drfpn.data.dataset import AnnotatedDataset, open_dataset
from drfpn.data.images import load_image
from drfpn.data.shapes import ShapesDataset
from drfpn.data.stats import stats

__all__ = [
    "AnnotatedDataset",
    "Annotations",
    "Converted",
    "DetectionDataset",
    "Finding",
    "ShapesDataset",
    "Target",
    "check_dataset",
    "clean",
    "convert",
    "load_image",
    "open_dataset",
    "stats",
]
