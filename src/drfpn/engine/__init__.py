"""Training, evaluation and prediction."""

from drfpn.engine.analyse import Analysis, analyse
from drfpn.engine.checkpoint import Card, load_detector, save_detector
from drfpn.engine.config import RunConfig, resolve
from drfpn.engine.evaluate import Metrics, detect, score
from drfpn.engine.interrupt import Interrupted
from drfpn.engine.predict import Detections, find_images, predict_file
from drfpn.engine.train import train

__all__ = [
    "Analysis",
    "Card",
    "Detections",
    "Interrupted",
    "Metrics",
    "RunConfig",
    "analyse",
    "detect",
    "find_images",
    "load_detector",
    "predict_file",
    "resolve",
    "save_detector",
    "score",
    "train",
]
