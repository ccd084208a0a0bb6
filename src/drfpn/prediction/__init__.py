"""A trained detector on images and videos: what it finds, drawn, written and compared."""

from drfpn.prediction.compare import Comparison, compare, draw_comparison
from drfpn.prediction.detections import Detections
from drfpn.prediction.inputs import find_inputs
from drfpn.prediction.job import Done, predict_files
from drfpn.prediction.predictor import Predictor, load_predictor

__all__ = [
    "Comparison",
    "Detections",
    "Done",
    "Predictor",
    "compare",
    "draw_comparison",
    "find_inputs",
    "load_predictor",
    "predict_files",
]
