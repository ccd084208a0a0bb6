"""A trained detector on images and videos: detections, drawn, written and compared."""

from drfpn.inference.compare import Comparison, compare, draw_comparison
from drfpn.inference.detections import Detections
from drfpn.inference.inputs import find_inputs
from drfpn.inference.predict_files import Done, predict_files
from drfpn.inference.predictor import Predictor, load_predictor

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
