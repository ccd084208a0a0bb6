"""Training of detectors: settings, training loop, checkpoints, logs and the report of a run.

Public:

- :func:`resolve` returns the :class:`RunConfig` of a model and a data set.
- :func:`train` trains, evaluates and writes a run folder with a report.
- :func:`load_detector` and :func:`save_detector` read and write weights with their :class:`Card`.
- :class:`Interrupted` is raised when a signal has stopped a run.
"""

from drfpn.training.checkpoint import Card, load_detector, save_detector
from drfpn.training.config import RunConfig
from drfpn.training.resolve import resolve
from drfpn.training.workflow import train
from drfpn.utils.errors import Interrupted

__all__ = [
    "Card",
    "Interrupted",
    "RunConfig",
    "load_detector",
    "resolve",
    "save_detector",
    "train",
]
