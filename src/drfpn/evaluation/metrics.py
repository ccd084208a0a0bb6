"""COCO's metrics of an evaluation, as they are stored in ``metrics.json``."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, model_validator

from drfpn.utils.aliases import METRICS, rename_keys

COCO_METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""COCO's metrics in pycocotools' order; their values are fractions in [0, 1], -1 where the data has no such object."""


class Metrics(BaseModel):
    """COCO's metrics of the detections on one split."""

    backend: str
    """Name and version of the COCO API that computed them."""
    split: str
    images: int
    detections: int
    box: dict[str, float]
    """Value of each of ``COCO_METRICS`` for boxes."""
    per_class: dict[str, dict[str, float]]
    """AP and AP50 of boxes by class name."""
    mask: dict[str, float] | None = None
    """Value of each of ``COCO_METRICS`` for masks; ``None`` for detections without masks."""
    mask_per_class: dict[str, dict[str, float]] | None = None
    """AP and AP50 of masks by class name."""

    @model_validator(mode="before")
    @classmethod
    def _rename_keys(cls, values: Any) -> Any:
        return rename_keys(values, METRICS) if isinstance(values, Mapping) else values

    @property
    def main_metric(self) -> float:
        """Metric by which the best epoch is chosen: AP of masks if there are masks, else AP of boxes."""
        return self.box["AP"] if self.mask is None else self.mask["AP"]

    def summary(self) -> dict[str, float]:
        """Return the metrics over all classes by name: ``AP``, ..., and ``mask_AP``, ... if there are masks."""
        return self.box | {f"mask_{name}": value for name, value in (self.mask or {}).items()}


def read_metrics(text: str) -> dict[str, Any]:
    """Parse the text of a ``metrics.json``; former keys are replaced by the present ones.

    Args:
        text: contents of the file.

    Returns:
        The fields of :class:`Metrics`, and what the training workflow adds to them: ``analysis``, ``examples``,
        ``cost``, ``data`` and ``neck``.

    Raises:
        ValueError: the text is not JSON.
    """
    return rename_keys(json.loads(text), METRICS)
