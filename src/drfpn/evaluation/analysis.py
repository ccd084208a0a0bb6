"""Analysis of detections: precision-recall curves, confusion matrix, thresholds, error types, bootstrap interval."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, model_validator

from drfpn.evaluation.backend import IoUType, choose_backend, make_cocoeval, name_and_version
from drfpn.evaluation.bootstrap import bootstrap_interval
from drfpn.evaluation.coco import require_masks, without_boxes
from drfpn.evaluation.confusion import confusion_matrix
from drfpn.evaluation.matching import interpolated_precision, match_detections, mean_average_precision
from drfpn.evaluation.thresholds import ScoreThreshold, best_f1_threshold
from drfpn.utils.aliases import METRICS, rename_keys


class PrecisionRecallCurves(BaseModel):
    """Interpolated precision at recall 0, 0.01, ..., 1; fractions."""

    iou50: list[float]
    iou75: list[float]
    mean: list[float]
    """Mean over IoU 0.50 to 0.95."""


class ErrorTypes(BaseModel):
    """TIDE's types of errors, at IoU 0.5 for the foreground and 0.1 for the background."""

    delta_ap: dict[str, float]
    """Gain of AP50 if all errors of a type were fixed, by type."""
    counts: dict[str, int]
    """Number of errors by type."""


class APAnalysis(BaseModel):
    """Analysis of boxes or of masks."""

    ap: float | None
    """``None`` if no class has objects."""
    interval: tuple[float, float] | None
    """95 % bootstrap interval of AP over images; ``None`` without resamples or without objects."""
    curves: PrecisionRecallCurves | None
    """Mean over the classes with objects; ``None`` if no class has objects."""
    curves_per_class: dict[str, PrecisionRecallCurves]
    thresholds: dict[str, ScoreThreshold | None]
    errors: ErrorTypes | None
    """``None`` without hotcoco."""


class Analysis(BaseModel):
    """Analysis of the detections on one split."""

    backend: str
    """Name and version of the COCO API that matched the detections."""
    classes: tuple[str, ...]
    confusion: list[list[int]]
    """Boxes at IoU 0.5: rows are classes of the ground truth, columns those of detections, background last."""
    confusion_score: float
    """Score threshold of the detections in ``confusion``."""
    resamples: int
    """Number of bootstrap resamples."""
    box: APAnalysis
    mask: APAnalysis | None = None

    @model_validator(mode="before")
    @classmethod
    def _rename_keys(cls, values: Any) -> Any:
        return rename_keys(values, METRICS) if isinstance(values, Mapping) else values


def analyze(
    ground_truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    *,
    masks: bool | None = None,
    resamples: int = 200,
    score_threshold: float = 0.5,
    seed: int = 0,
    backend: str | None = None,
) -> Analysis:
    """Analyze detections beyond COCO's metrics.

    Args:
        ground_truth: a COCO dict, crowd regions included.
        results: detections in COCO's results format.
        masks: whether to analyze masks too; ``None``: if a detection has a mask.
        resamples: number of bootstrap resamples of the images; 0 for no interval.
        score_threshold: detections with lower scores are left out of the confusion matrix.
        seed: seed of the resamples.
        backend: ``"hotcoco"`` or ``"pycocotools"``; ``None``: the first of them that can be imported.

    Raises:
        UserError: neither backend can be imported, or masks are missing.
    """
    backend = backend or choose_backend()
    rows = [dict(result) for result in results]
    masks = any("segmentation" in row for row in rows) if masks is None else masks
    if masks:
        require_masks(ground_truth, rows)
    names = {row["id"]: row["name"] for row in ground_truth["categories"]}
    classes = tuple(names[category] for category in sorted(names))
    options = (classes, resamples, seed)
    return Analysis(
        backend=name_and_version(backend),
        classes=classes,
        confusion=confusion_matrix(ground_truth, rows, score_threshold=score_threshold).tolist(),
        confusion_score=score_threshold,
        resamples=resamples,
        box=_analyze(backend, ground_truth, rows, "bbox", *options),
        mask=_analyze(backend, ground_truth, without_boxes(rows), "segm", *options) if masks else None,
    )


def _analyze(
    backend: str,
    ground_truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    iou_type: IoUType,
    classes: Sequence[str],
    resamples: int,
    seed: int,
) -> APAnalysis:
    matches = match_detections(backend, ground_truth, results, iou_type)
    precision_per_class = [interpolated_precision(of_class) for of_class in matches]
    with_objects = {
        name: precision for name, precision in zip(classes, precision_per_class, strict=True) if precision[0, 0] >= 0
    }
    return APAnalysis(
        ap=mean_average_precision(precision_per_class) if with_objects else None,
        interval=bootstrap_interval(matches, resamples=resamples, seed=seed) if resamples and with_objects else None,
        curves=_curves(np.mean(list(with_objects.values()), axis=0)) if with_objects else None,
        curves_per_class={name: _curves(precision) for name, precision in with_objects.items()},
        thresholds={name: best_f1_threshold(of_class) for name, of_class in zip(classes, matches, strict=True)},
        errors=_error_types(ground_truth, results, iou_type) if backend == "hotcoco" else None,
    )


def _curves(precision: NDArray[np.float64]) -> PrecisionRecallCurves:
    mean = precision.mean(axis=0)
    return PrecisionRecallCurves(iou50=precision[0].tolist(), iou75=precision[5].tolist(), mean=mean.tolist())


def _error_types(
    ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], iou_type: IoUType
) -> ErrorTypes:
    cocoeval = make_cocoeval("hotcoco", ground_truth, results, iou_type)
    cocoeval.evaluate()
    errors = cocoeval.tide_errors(pos_thr=0.5, bg_thr=0.1)
    return ErrorTypes(delta_ap=errors["delta_ap"], counts=errors["counts"])
