"""What lies behind AP: curves, thresholds, confusions, kinds of error and how certain the number is."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from drfpn.evaluation.backend import Kind, choose_backend, make_cocoeval, with_version
from drfpn.evaluation.bootstrap import interval
from drfpn.evaluation.coco import require_masks, without_boxes
from drfpn.evaluation.confusion import confusion_matrix
from drfpn.evaluation.matching import find_matches, mean_precision, precisions
from drfpn.evaluation.thresholds import Threshold, best_threshold


class Curves(BaseModel):
    """Precision at recall 0, 0.01, ..., 1; fractions."""

    iou50: list[float]
    iou75: list[float]
    mean: list[float]
    """Over IoU 0.5 to 0.95."""


class Errors(BaseModel):
    """TIDE's kinds of error at IoU 0.5, 0.1 for background."""

    delta_ap: dict[str, float]
    """AP50 to be won by mending each kind."""
    counts: dict[str, int]


class Details(BaseModel):
    """Of boxes or of masks."""

    ap: float
    interval: tuple[float, float] | None
    """Where 95 % of the resamples of the images have their AP."""
    curves: Curves | None
    """Mean over classes with objects; ``None`` where there is none."""
    curves_per_class: dict[str, Curves]
    thresholds: dict[str, Threshold | None]
    errors: Errors | None
    """``None`` without hotcoco."""


class Analysis(BaseModel):
    """What lies behind AP."""

    engine: str
    classes: tuple[str, ...]
    confusion: list[list[int]]
    """Boxes at IoU 0.5: rows are the truth, columns what was found, the last of each is background."""
    confusion_score: float
    """Least score of a detection in ``confusion``."""
    resamples: int
    box: Details
    mask: Details | None = None


def analyze(
    ground_truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    *,
    masks: bool | None = None,
    resamples: int = 200,
    min_score: float = 0.5,
    seed: int = 0,
    engine: str | None = None,
) -> Analysis:
    """Look into an evaluation.

    Args:
        ground_truth: A COCO dict, crowd regions included.
        results: Detections in COCO's results format.
        masks: Whether to look at masks too; ``None`` for where the results have them.
        resamples: Of the bootstrap interval; 0 for none.
        min_score: Least score of a detection in the confusion matrix.
        seed: Of the resamples.
        engine: As in ``score``.

    Raises:
        UserError: No engine can be imported, or masks are missing.
    """
    engine = engine or choose_backend()
    rows = [dict(result) for result in results]
    masks = any("segmentation" in row for row in rows) if masks is None else masks
    if masks:
        require_masks(ground_truth, rows)
    names = {row["id"]: row["name"] for row in ground_truth["categories"]}
    classes = tuple(names[category] for category in sorted(names))
    options = (classes, resamples, seed)
    return Analysis(
        engine=with_version(engine),
        classes=classes,
        confusion=confusion_matrix(ground_truth, rows, min_score=min_score).tolist(),
        confusion_score=min_score,
        resamples=resamples,
        box=_details(engine, ground_truth, rows, "bbox", *options),
        mask=_details(engine, ground_truth, without_boxes(rows), "segm", *options) if masks else None,
    )


def _details(
    engine: str,
    truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    kind: Kind,
    classes: Sequence[str],
    resamples: int,
    seed: int,
) -> Details:
    matches = find_matches(engine, truth, results, kind)
    by_class = [precisions(of_class) for of_class in matches]
    measured = {name: precision for name, precision in zip(classes, by_class, strict=True) if precision[0, 0] >= 0}
    return Details(
        ap=mean_precision(by_class),
        interval=interval(matches, resamples=resamples, seed=seed) if resamples else None,
        curves=_curves(np.mean(list(measured.values()), axis=0)) if measured else None,
        curves_per_class={name: _curves(precision) for name, precision in measured.items()},
        thresholds={name: best_threshold(of_class) for name, of_class in zip(classes, matches, strict=True)},
        errors=_errors(truth, results, kind) if engine == "hotcoco" else None,
    )


def _curves(precision: NDArray[np.float64]) -> Curves:
    mean = precision.mean(axis=0)
    return Curves(iou50=precision[0].tolist(), iou75=precision[5].tolist(), mean=mean.tolist())


def _errors(truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], kind: Kind) -> Errors:
    evaluation = make_cocoeval("hotcoco", truth, results, kind)
    evaluation.evaluate()
    found = evaluation.tide_errors(pos_thr=0.5, bg_thr=0.1)
    return Errors(delta_ap=found["delta_ap"], counts=found["counts"])
