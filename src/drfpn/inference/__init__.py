"""Inference with trained and exported detectors on images and videos.

Example::

    predictor = load_predictor("runs/RUN")  # or an exported file
    detections = predictor("photo.jpg").above(0.5)
    print(detections.class_names(), detections.boxes)
    detections.plot("photo.jpg").save("detections.jpg")
"""

from drfpn.inference.compare import Comparison, compare, draw_comparison
from drfpn.inference.detections import Detections
from drfpn.inference.images import UnreadableInputError
from drfpn.inference.inputs import find_inputs
from drfpn.inference.predict_files import PredictionSummary, predict_files
from drfpn.inference.predictor import Predictor, load_predictor

__all__ = [
    "Comparison",
    "Detections",
    "PredictionSummary",
    "Predictor",
    "UnreadableInputError",
    "compare",
    "draw_comparison",
    "find_inputs",
    "load_predictor",
    "predict_files",
]
