"""Which class is taken for which."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def confusion_matrix(
    truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], *, iou: float = 0.5, min_score: float = 0.5
) -> NDArray[np.int64]:
    """Count boxes by class of the object (row) and class of the detection (column); the last of each is background.

    Best score first, a detection takes the object of its own class that it overlaps most. What is left over then
    meets the objects of other classes that are left over. A detection inside a crowd of its class is not counted.

    Args:
        truth: A COCO dict.
        results: Detections with boxes in COCO's results format.
        iou: Least overlap of a detection with its object.
        min_score: Least score of a detection that is counted.
    """
    row_of = {category: k for k, category in enumerate(sorted(row["id"] for row in truth["categories"]))}
    objects, detections = defaultdict(list), defaultdict(list)
    for row in truth["annotations"]:
        objects[row["image_id"]].append((row_of[row["category_id"]], bool(row.get("iscrowd")), *row["bbox"]))
    for row in results:
        if row["score"] >= min_score:
            detections[row["image_id"]].append((row["score"], row_of[row["category_id"]], *row["bbox"]))
    background = len(row_of)
    matrix = np.zeros((background + 1, background + 1), dtype=np.int64)
    for image in objects.keys() | detections.keys():
        known = np.array(objects[image], dtype=np.float64).reshape(-1, 6)
        found = np.array(detections[image], dtype=np.float64).reshape(-1, 6)
        found = found[np.argsort(-found[:, 0], kind="mergesort")]
        rows, columns = _pairs(known, found, iou, background)
        np.add.at(matrix, (rows, columns), 1)
    return matrix


def _pairs(
    known: NDArray[np.float64], found: NDArray[np.float64], iou: float, background: int
) -> tuple[list[int], list[int]]:
    """Return row and column of everything to count in one image."""
    crowd = known[:, 1] > 0
    truth_class, class_found = known[:, 0].astype(int), found[:, 1].astype(int)
    overlap = _overlaps(found[:, 2:], known[:, 2:], crowd)
    same = class_found[:, None] == truth_class[None]
    free = ~crowd
    rows: list[int] = []
    columns: list[int] = []
    left: list[int] = []
    for own_class in (True, False):
        for d in range(len(found)) if own_class else left:
            scores = np.where(free & (same[d] == own_class), overlap[d], -1.0)
            best = int(scores.argmax()) if scores.size else -1
            if best >= 0 and scores[best] >= iou:
                free[best] = False
                rows.append(int(truth_class[best]))
            elif own_class:
                if not (crowd & same[d] & (overlap[d] >= iou)).any():
                    left.append(d)
                continue
            else:
                rows.append(background)
            columns.append(int(class_found[d]))
    missed = truth_class[free].tolist()
    return rows + missed, columns + [background] * len(missed)


def _overlaps(found: NDArray[np.float64], known: NDArray[np.float64], crowd: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return IoU (D, N) of boxes x, y, width, height; with a crowd, the share of the detection inside it."""
    low = np.maximum(found[:, None, :2], known[None, :, :2])
    high = np.minimum((found[:, :2] + found[:, 2:])[:, None], (known[:, :2] + known[:, 2:])[None])
    common = (high - low).clip(0).prod(axis=2)
    areas = found[:, 2:].prod(axis=1)[:, None]
    union = np.where(crowd[None], areas, areas + known[:, 2:].prod(axis=1)[None] - common)
    return common / np.maximum(union, np.finfo(float).tiny)
