"""COCO's metrics of an evaluation, as they are stored in ``metrics.json``."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, model_validator

from drfpn.utils.aliases import METRICS, rename_keys

COCO_METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""COCO's metrics in pycocotools' order; their values are fractions in [0, 1], ``None`` where the data has no such
object."""

Values = dict[str, float | None]


class Metrics(BaseModel):
    """COCO's metrics of the detections on one split."""

    backend: str
    """Name and version of the COCO API that computed them."""
    split: str
    images: int
    detections: int
    box: Values
    """Value of each of ``COCO_METRICS`` for boxes."""
    per_class: dict[str, Values]
    """AP and AP50 of boxes by class name."""
    mask: Values | None = None
    """Value of each of ``COCO_METRICS`` for masks; ``None`` for detections without masks."""
    mask_per_class: dict[str, Values] | None = None
    """AP and AP50 of masks by class name."""

    @model_validator(mode="before")
    @classmethod
    def _rename_keys(cls, values: Any) -> Any:
        return upgrade_metrics(values) if isinstance(values, Mapping) else values

    @property
    def main_metric(self) -> float | None:
        """Metric by which the best epoch is chosen: AP of masks if there are masks, else AP of boxes."""
        return self.box["AP"] if self.mask is None else self.mask["AP"]

    def summary(self) -> Values:
        """Return the metrics over all classes by name: ``AP``, ..., and ``mask_AP``, ... if there are masks."""
        return self.box | {f"mask_{name}": value for name, value in (self.mask or {}).items()}


def read_metrics(text: str) -> dict[str, Any]:
    """Parse the text of a ``metrics.json``, see :func:`upgrade_metrics`.

    Args:
        text: contents of the file.

    Returns:
        The fields of :class:`Metrics`, and what the training workflow adds to them: ``analysis``, ``examples``,
        ``cost``, ``data`` and ``neck``.

    Raises:
        ValueError: the text is not JSON.
    """
    return upgrade_metrics(json.loads(text))


def upgrade_metrics(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return metrics of any version of this library as they are written today.

    Former keys are replaced by the present ones, and -1, COCO's value of a metric without objects, by ``None``.

    Args:
        values: contents of a ``metrics.json``.
    """
    renamed = rename_keys(values, METRICS)
    for key in ("box", "mask"):
        renamed |= {name: _defined(renamed[name]) for name in (key, _PER_CLASS[key]) if renamed.get(name)}
        details = (renamed.get("analysis") or {}).get(key)
        if details:
            details |= {"ap": defined(details["ap"])}
            if details["ap"] is None:
                details["interval"] = None
    return renamed


def defined(value: float | None) -> float | None:
    """Return a metric, ``None`` for -1 and NaN, which stand for one without objects in COCO's and other tools."""
    return value if value is not None and value >= 0 else None


_PER_CLASS = {"box": "per_class", "mask": "mask_per_class"}


def _defined(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _defined(value) if isinstance(value, Mapping) else defined(value) for key, value in values.items()}
