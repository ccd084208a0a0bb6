"""Confusion matrix of detections and ground truth."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def confusion_matrix(
    ground_truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    *,
    iou_threshold: float = 0.5,
    score_threshold: float = 0.5,
) -> NDArray[np.int64]:
    """Count pairs of objects and detections by class, with background for what has no partner.

    In descending order of scores, each detection is matched with the object of its own class that it overlaps most;
    detections that remain are then matched with remaining objects of other classes. A detection inside a crowd of its
    class is not counted.

    Args:
        ground_truth: a COCO dict.
        results: detections with boxes in COCO's results format.
        iou_threshold: lowest IoU of a match.
        score_threshold: detections with lower scores are left out.

    Returns:
        (K + 1, K + 1): rows are classes of objects, columns those of detections, in the order of the category ids; the
        last of each is background.
    """
    class_index = {category: k for k, category in enumerate(sorted(row["id"] for row in ground_truth["categories"]))}
    gt_rows, dt_rows = defaultdict(list), defaultdict(list)
    for row in ground_truth["annotations"]:
        gt_rows[row["image_id"]].append((class_index[row["category_id"]], bool(row.get("iscrowd")), *row["bbox"]))
    for row in results:
        if row["score"] >= score_threshold:
            dt_rows[row["image_id"]].append((row["score"], class_index[row["category_id"]], *row["bbox"]))
    background = len(class_index)
    matrix = np.zeros((background + 1, background + 1), dtype=np.int64)
    for image in gt_rows.keys() | dt_rows.keys():
        gt = np.array(gt_rows[image], dtype=np.float64).reshape(-1, 6)
        dt = np.array(dt_rows[image], dtype=np.float64).reshape(-1, 6)
        dt = dt[np.argsort(-dt[:, 0], kind="mergesort")]
        np.add.at(matrix, _pairs(gt, dt, iou_threshold, background), 1)
    return matrix


def _pairs(
    gt: NDArray[np.float64], dt: NDArray[np.float64], iou_threshold: float, background: int
) -> tuple[list[int], list[int]]:
    """Return row and column of each pair of one image.

    Args:
        gt: (N, 6) class, crowd, x, y, width, height.
        dt: (D, 6) score, class, x, y, width, height, best score first.
        iou_threshold: lowest IoU of a match.
        background: class of the background.
    """
    crowd = gt[:, 1] > 0
    gt_class, dt_class = gt[:, 0].astype(int), dt[:, 1].astype(int)
    overlaps = _overlaps(dt[:, 2:], gt[:, 2:], crowd)
    same_class = dt_class[:, None] == gt_class[None]
    unmatched = ~crowd
    rows: list[int] = []
    columns: list[int] = []
    remaining: list[int] = []
    for own_class in (True, False):
        for d in range(len(dt)) if own_class else remaining:
            candidates = np.where(unmatched & (same_class[d] == own_class), overlaps[d], -1.0)
            best = int(candidates.argmax()) if candidates.size else -1
            if best >= 0 and candidates[best] >= iou_threshold:
                unmatched[best] = False
                rows.append(int(gt_class[best]))
            elif own_class:
                if not (crowd & same_class[d] & (overlaps[d] >= iou_threshold)).any():
                    remaining.append(d)
                continue
            else:
                rows.append(background)
            columns.append(int(dt_class[d]))
    missed = gt_class[unmatched].tolist()
    return rows + missed, columns + [background] * len(missed)


def _overlaps(dt: NDArray[np.float64], gt: NDArray[np.float64], crowd: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return IoU (D, N) of boxes x, y, width, height; for crowds the fraction of the detection inside the crowd."""
    low = np.maximum(dt[:, None, :2], gt[None, :, :2])
    high = np.minimum((dt[:, :2] + dt[:, 2:])[:, None], (gt[:, :2] + gt[:, 2:])[None])
    intersection = (high - low).clip(0).prod(axis=2)
    areas = dt[:, 2:].prod(axis=1)[:, None]
    union = np.where(crowd[None], areas, areas + gt[:, 2:].prod(axis=1)[None] - intersection)
    return intersection / np.maximum(union, np.finfo(float).tiny)
