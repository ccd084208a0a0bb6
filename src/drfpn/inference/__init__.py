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
from drfpn.inference.predict_files import predict_files
from drfpn.inference.predictor import Predictor, load_predictor
from drfpn.inference.shards import merge_shards
from drfpn.inference.summary import PredictionSummary
from drfpn.utils.shard import Shard

__all__ = [
    "Comparison",
    "Detections",
    "PredictionSummary",
    "Predictor",
    "Shard",
    "UnreadableInputError",
    "compare",
    "draw_comparison",
    "find_inputs",
    "load_predictor",
    "merge_shards",
    "predict_files",
]
