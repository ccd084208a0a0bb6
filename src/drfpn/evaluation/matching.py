"""Matching of detections with the ground truth, and precision, AP and error counts from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drfpn.evaluation.backend import IoUType, make_cocoeval

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_THRESHOLDS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class ClassMatches:
    """D detections of one class over M images, best score first, as COCO matches them at 10 IoU thresholds."""

    scores: NDArray[np.float64]
    """(D,)"""
    images: NDArray[np.int64]
    """(D,) index of the image."""
    true_positive: NDArray[np.bool_]
    """(10, D) whether the detection is matched with an object."""
    ignored: NDArray[np.bool_]
    """(10, D) whether it counts neither as a true nor as a false positive, as on a crowd."""
    num_gt: NDArray[np.int64]
    """(M,) objects of the class in each image, crowds left out."""


def match_detections(
    backend: str, ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], iou_type: IoUType
) -> list[ClassMatches]:
    """Match detections with objects of all sizes.

    Args:
        backend: ``"hotcoco"`` or ``"pycocotools"``.
        ground_truth: a COCO dict.
        results: detections in COCO's results format; the best 100 of an image count.
        iou_type: ``"bbox"`` or ``"segm"``.

    Returns:
        The matches of each class, in the order of the category ids.
    """
    cocoeval = make_cocoeval(backend, ground_truth, results, iou_type)
    cocoeval.params.areaRng = [[0, 1e10]]
    cocoeval.params.areaRngLbl = ["all"]
    cocoeval.params.maxDets = [100]
    cocoeval.evaluate()
    image_index = {image_id: i for i, image_id in enumerate(sorted(image["id"] for image in ground_truth["images"]))}
    records: dict[int, list[Any]] = {category["id"]: [] for category in ground_truth["categories"]}
    for record in cocoeval.evalImgs:
        if record is not None:
            records[record["category_id"]].append(record)
    return [_class_matches(records[category], image_index) for category in sorted(records)]


def _class_matches(records: list[Any], image_index: Mapping[int, int]) -> ClassMatches:
    records.sort(key=lambda record: record["image_id"])  # which decides among equal scores
    num_gt = np.zeros(len(image_index), dtype=np.int64)
    scores, images = [np.zeros(0)], [np.zeros(0, dtype=np.int64)]
    matched, ignored = ([np.zeros((len(IOU_THRESHOLDS), 0), dtype=bool)] for _ in range(2))
    for record in records:
        image = image_index[record["image_id"]]
        detections = len(record["dtScores"])
        num_gt[image] = len(record["gtIgnore"]) - int(np.sum(record["gtIgnore"]))
        if detections:
            scores.append(np.asarray(record["dtScores"], dtype=np.float64))
            images.append(np.full(detections, image))
            matched.append(np.asarray(record["dtMatches"]) != 0)
            ignored.append(np.asarray(record["dtIgnore"], dtype=bool))
    order = np.argsort(-np.concatenate(scores), kind="mergesort")
    ignored_sorted = np.concatenate(ignored, axis=1)[:, order]
    return ClassMatches(
        scores=np.concatenate(scores)[order],
        images=np.concatenate(images)[order],
        true_positive=np.concatenate(matched, axis=1)[:, order] & ~ignored_sorted,
        ignored=ignored_sorted,
        num_gt=num_gt,
    )


def interpolated_precision(matches: ClassMatches, weights: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Compute COCO's interpolated precision of a class.

    Args:
        matches: matched detections of the class.
        weights: (M,) how often each image counts; ``None`` for once each.

    Returns:
        (10, 101), precision at ``IOU_THRESHOLDS`` and ``RECALL_THRESHOLDS``; -1 if the class has no object.
    """
    if weights is None:
        weights = np.ones(len(matches.num_gt))
    num_gt = float(weights @ matches.num_gt)
    result = np.full((len(IOU_THRESHOLDS), len(RECALL_THRESHOLDS)), -1.0 if num_gt == 0 else 0.0)
    if num_gt == 0:
        return result
    weight = weights[matches.images]
    for row, is_true_positive, ignored in zip(result, matches.true_positive, matches.ignored, strict=True):
        hits = np.flatnonzero(is_true_positive)  # only here recall rises and precision peaks
        if not len(hits):
            continue
        true_positives = np.cumsum(weight[hits])
        detections = np.cumsum(np.where(ignored, 0.0, weight))[hits]
        precision = true_positives / (detections + np.spacing(1))
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        index = np.searchsorted(true_positives / num_gt, RECALL_THRESHOLDS, side="left")
        row[index < len(hits)] = precision[index[index < len(hits)]]
    return result


def mean_average_precision(precision_per_class: Sequence[NDArray[np.float64]]) -> float:
    """Average the precision over IoU thresholds, recalls and the classes that have objects; -1 if none has.

    Args:
        precision_per_class: (10, 101) of each class, from :func:`interpolated_precision`.
    """
    values = [precision.mean() for precision in precision_per_class if precision[0, 0] >= 0]
    return float(np.mean(values)) if values else -1.0


@dataclass(frozen=True)
class ImageCounts:
    """Counts of M images at IoU 0.5, all classes together; arrays (M,), in the order of the image ids."""

    true_positives: NDArray[np.int64]
    """Detections that are matched with an object."""
    false_positives: NDArray[np.int64]
    """Detections that are not."""
    false_negatives: NDArray[np.int64]
    """Objects that are not matched with a detection."""

    @property
    def f1(self) -> NDArray[np.float64]:
        """Harmonic mean of precision and recall (M,); 1 for an image without objects and detections."""
        errors = self.false_positives + self.false_negatives
        return np.where(errors == 0, 1.0, 2 * self.true_positives / np.maximum(2 * self.true_positives + errors, 1))


def count_per_image(matches: Sequence[ClassMatches], *, score_threshold: float = 0.5) -> ImageCounts:
    """Count true positives, false positives and false negatives of each image at IoU 0.5.

    Args:
        matches: matched detections of each class.
        score_threshold: detections with lower scores do not count.
    """
    images = len(matches[0].num_gt)
    true_positives, detections, num_gt = (np.zeros(images, dtype=np.int64) for _ in range(3))
    for of_class in matches:
        counted = (of_class.scores >= score_threshold) & ~of_class.ignored[0]
        true_positives += np.bincount(of_class.images[counted & of_class.true_positive[0]], minlength=images)
        detections += np.bincount(of_class.images[counted], minlength=images)
        num_gt += of_class.num_gt
    return ImageCounts(
        true_positives=true_positives,
        false_positives=detections - true_positives,
        false_negatives=num_gt - true_positives,
    )
