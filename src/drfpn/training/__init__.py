"""Training: settings, the loop, checkpoints and logs."""

from drfpn.training.checkpoint import Card, load_detector, save_detector
from drfpn.training.config import RunConfig, resolve
from drfpn.training.interrupt import Interrupted
from drfpn.training.trainer import train

__all__ = [
    "Card",
    "Interrupted",
    "RunConfig",
    "load_detector",
    "resolve",
    "save_detector",
    "train",
]
