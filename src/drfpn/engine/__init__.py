"""Training and evaluation."""

from drfpn.engine.analyse import Analysis, analyse
from drfpn.engine.checkpoint import Card, load_detector, save_detector
from drfpn.engine.config import RunConfig, resolve
from drfpn.engine.evaluate import Metrics, detect, score
from drfpn.engine.interrupt import Interrupted
from drfpn.engine.train import train

__all__ = [
    "Analysis",
    "Card",
    "Interrupted",
    "Metrics",
    "RunConfig",
    "analyse",
    "detect",
    "load_detector",
    "resolve",
    "save_detector",
    "score",
    "train",
]
