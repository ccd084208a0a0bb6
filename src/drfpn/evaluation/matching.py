"""Which detection found which object: what curves, thresholds and intervals are made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drfpn.evaluation.backend import Kind, make_cocoeval

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class ClassMatches:
    """D detections of one class over M images, best score first, as COCO matches them at 10 IoUs."""

    scores: NDArray[np.float64]
    """(D,)"""
    images: NDArray[np.int64]
    """(D,) index of the image."""
    found: NDArray[np.bool_]
    """(10, D) whether it found an object."""
    ignored: NDArray[np.bool_]
    """(10, D) whether it counts neither for nor against, as on a crowd."""
    objects: NDArray[np.int64]
    """(M,) objects to be found in each image."""


def find_matches(
    engine: str, truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], kind: Kind
) -> list[ClassMatches]:
    """Match detections with objects of all sizes, by class in the order of the category ids."""
    evaluation = make_cocoeval(engine, truth, results, kind)
    evaluation.params.areaRng = [[0, 1e10]]
    evaluation.params.areaRngLbl = ["all"]
    evaluation.params.maxDets = [100]
    evaluation.evaluate()
    index = {image_id: i for i, image_id in enumerate(sorted(image["id"] for image in truth["images"]))}
    records: dict[int, list[Any]] = {category["id"]: [] for category in truth["categories"]}
    for record in evaluation.evalImgs:
        if record is not None:
            records[record["category_id"]].append(record)
    return [_class_matches(records[category], index) for category in sorted(records)]


def _class_matches(records: list[Any], index: Mapping[int, int]) -> ClassMatches:
    records.sort(key=lambda record: record["image_id"])  # which decides among equal scores
    objects = np.zeros(len(index), dtype=np.int64)
    scores, images = [np.zeros(0)], [np.zeros(0, dtype=np.int64)]
    found, ignored = [np.zeros((len(IOUS), 0), dtype=bool)], [np.zeros((len(IOUS), 0), dtype=bool)]
    for record in records:
        image = index[record["image_id"]]
        count = len(record["dtScores"])
        objects[image] = len(record["gtIgnore"]) - int(np.sum(record["gtIgnore"]))
        if count:
            scores.append(np.asarray(record["dtScores"], dtype=np.float64))
            images.append(np.full(count, image))
            found.append(np.asarray(record["dtMatches"]) != 0)
            ignored.append(np.asarray(record["dtIgnore"], dtype=bool))
    order = np.argsort(-np.concatenate(scores), kind="mergesort")
    skip = np.concatenate(ignored, axis=1)[:, order]
    return ClassMatches(
        scores=np.concatenate(scores)[order],
        images=np.concatenate(images)[order],
        found=np.concatenate(found, axis=1)[:, order] & ~skip,
        ignored=skip,
        objects=objects,
    )


def precisions(matches: ClassMatches, weights: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Return COCO's precision (10 IoUs, 101 recalls) of a class; -1 where there is nothing to find.

    Args:
        matches: Of the class.
        weights: (M,) how often each image counts; ``None`` for once.
    """
    if weights is None:
        weights = np.ones(len(matches.objects))
    total = float(weights @ matches.objects)
    result = np.full((len(IOUS), len(RECALLS)), -1.0 if total == 0 else 0.0)
    if total == 0:
        return result
    weight = weights[matches.images]
    for row, found, ignored in zip(result, matches.found, matches.ignored, strict=True):
        hits = np.flatnonzero(found)  # recall rises, and precision peaks, at these alone
        if not len(hits):
            continue
        right = np.cumsum(weight[hits])
        counted = np.cumsum(np.where(ignored, 0.0, weight))[hits]
        precision = right / (counted + np.spacing(1))
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        at = np.searchsorted(right / total, RECALLS, side="left")
        row[at < len(hits)] = precision[at[at < len(hits)]]
    return result


def mean_precision(by_class: Sequence[NDArray[np.float64]]) -> float:
    """Average over classes with objects; -1 where there is none."""
    values = [precision.mean() for precision in by_class if precision[0, 0] >= 0]
    return float(np.mean(values)) if values else -1.0


@dataclass(frozen=True)
class ImageCounts:
    """What was found in each of M images at IoU 0.5, all classes together; arrays (M,), in the order of image ids."""

    right: NDArray[np.int64]
    """Objects that were found."""
    false: NDArray[np.int64]
    """Detections that found none."""
    missed: NDArray[np.int64]
    """Objects that were not found."""

    @property
    def f1(self) -> NDArray[np.float64]:
        """Harmonic mean of precision and recall; 1 where there is nothing to find and nothing was found."""
        errors = self.false + self.missed
        return np.where(errors == 0, 1.0, 2 * self.right / np.maximum(2 * self.right + errors, 1))


def count_images(matches: Sequence[ClassMatches], *, min_score: float = 0.5) -> ImageCounts:
    """Count what was found in each image.

    Args:
        matches: Of every class.
        min_score: Detections below do not count.
    """
    images = len(matches[0].objects)
    right, found = np.zeros(images, dtype=np.int64), np.zeros(images, dtype=np.int64)
    objects = np.zeros(images, dtype=np.int64)
    for of_class in matches:
        counted = (of_class.scores >= min_score) & ~of_class.ignored[0]
        right += np.bincount(of_class.images[counted & of_class.found[0]], minlength=images)
        found += np.bincount(of_class.images[counted], minlength=images)
        objects += of_class.objects
    return ImageCounts(right=right, false=found - right, missed=objects - right)
