"""Data sets: formats, one target dict, checks, and synthetic shapes."""

from drfpn.data.annotations import Annotations
from drfpn.data.base import DetectionDataset, Target
from drfpn.data.dataset import AnnotatedDataset, open_dataset
from drfpn.data.formats.convert import Converted, convert
from drfpn.data.image_io import load_image
from drfpn.data.stats import stats
from drfpn.data.synthetic.shapes import ShapesDataset
from drfpn.data.validation.boxes import clean
from drfpn.data.validation.check import Finding, check_dataset

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
