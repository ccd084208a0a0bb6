"""COCO API that computes the metrics: hotcoco, or pycocotools if hotcoco cannot be imported."""

import contextlib
import io
import logging
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import version
from typing import Any, Literal

from drfpn.utils.errors import UserError

IoUType = Literal["bbox", "segm"]
"""Whether overlaps are those of boxes or of masks, as in pycocotools."""

logger = logging.getLogger(__name__)


def choose_backend() -> str:
    """Return ``"hotcoco"`` if it can be imported, else ``"pycocotools"`` with a warning.

    Raises:
        UserError: neither of them can be imported.
    """
    try:
        import_module("hotcoco")
        return "hotcoco"
    except ImportError as error:
        reason = str(error)
    try:
        import_module("pycocotools.cocoeval")
    except ImportError as error:
        raise UserError(
            "Evaluation needs hotcoco, which cannot be imported, nor can pycocotools: pip install 'hotcoco>=1.3'."
        ) from error
    _warn_of_fallback(reason)
    return "pycocotools"


@cache
def _warn_of_fallback(reason: str) -> None:
    logger.warning(f"hotcoco cannot be imported ({reason}): evaluating with pycocotools, which takes longer")


def name_and_version(backend: str) -> str:
    """Return the name of a backend with its version, such as ``"hotcoco 1.3.0"``."""
    return f"{backend} {version(backend)}"


def make_cocoeval(
    backend: str, ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], iou_type: IoUType
) -> Any:
    """Make the ``COCOeval`` of a backend, on which ``evaluate`` is not called yet. The arguments are not changed.

    Args:
        backend: ``"hotcoco"`` or ``"pycocotools"``.
        ground_truth: a COCO dict.
        results: detections in COCO's results format.
        iou_type: ``"bbox"`` or ``"segm"``.
    """
    if backend == "hotcoco":
        import hotcoco

        # names have no effect on the metrics, and hotcoco reports those that are empty
        categories = [{"id": row["id"], "name": str(row["id"])} for row in ground_truth["categories"]]
        coco_gt = hotcoco.COCO({**ground_truth, "categories": categories})
        return hotcoco.COCOeval(coco_gt, coco_gt.load_res([dict(row) for row in results]), iou_type)
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # it prints, and stdout is the caller's
        coco_gt = _index(COCO(), ground_truth)
        # It writes into the records, and cannot load an empty list.
        rows = [dict(row) for row in results]
        coco_dt = coco_gt.loadRes(rows) if rows else _index(COCO(), {**ground_truth, "annotations": []})
        return COCOeval(coco_gt, coco_dt, iou_type)


def _index(coco: Any, ground_truth: Mapping[str, Any]) -> Any:
    coco.dataset = {**ground_truth, "annotations": [dict(row) for row in ground_truth["annotations"]]}
    coco.createIndex()
    return coco


def coco_stats(cocoeval: Any) -> list[float]:
    """Run a ``COCOeval`` and return its ``stats``: the values of ``COCO_METRICS``, in that order.

    Args:
        cocoeval: made by :func:`make_cocoeval`.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        cocoeval.evaluate()
        cocoeval.accumulate()
        cocoeval.summarize()
    return [float(value) for value in cocoeval.stats]
