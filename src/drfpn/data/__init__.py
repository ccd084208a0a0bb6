"""Data sets: reading, writing and checking COCO, VOC and YOLO formats, and the synthetic data set "shapes"."""

from drfpn.data.annotations import Annotations
from drfpn.data.base import DetectionDataset, Target
from drfpn.data.dataset import AnnotatedDataset, open_dataset
from drfpn.data.formats.convert import ConversionResult, convert
from drfpn.data.image_io import load_image
from drfpn.data.splits import SplitResult, split_dataset
from drfpn.data.stats import stats
from drfpn.data.synthetic.shapes import ShapesDataset
from drfpn.data.validation.boxes import sanitize_boxes
from drfpn.data.validation.check import IssueSummary, check_dataset

__all__ = [
    "AnnotatedDataset",
    "Annotations",
    "ConversionResult",
    "DetectionDataset",
    "IssueSummary",
    "ShapesDataset",
    "SplitResult",
    "Target",
    "check_dataset",
    "convert",
    "load_image",
    "open_dataset",
    "sanitize_boxes",
    "split_dataset",
    "stats",
]
