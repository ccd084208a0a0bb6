"""Signs that the numbers of a results file mean something else: corners for sizes, classes from 0, scores in percent.

Detections are compared with the objects under each reading: right results overlap many objects as they are, and
misread ones only under another reading.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from drfpn.evaluation.coco import Result

_Array = NDArray[np.float64]

_IOU = 0.5
_ENOUGH = 20  # objects that a proof needs: a poor detector may hit fewer under another reading by chance
_SLACK = 1.02  # boxes of other tools may extend beyond the image a little


class Misreading(NamedTuple):
    """A sign that a results file means something else than COCO's format says."""

    text: str
    """What was found and what the numbers seem to be, a sentence without its period."""
    certain: bool
    """Whether no right results look like this."""


def find_misreadings(results: Sequence[Result], ground_truth: Mapping[str, Any]) -> list[Misreading]:
    """Return the signs that checked detections are misread.

    Args:
        results: detections as of :func:`drfpn.evaluation.results.check_results`.
        ground_truth: a COCO dict, perhaps without annotations.
    """
    if not results:
        return []
    table = _Table(results, ground_truth)
    empty = _empty_boxes(table)
    if (table.box[:, 2:] <= 0).any(axis=1).mean() > 0.5:  # the other signs would be of these boxes
        return [*_misread_scores(table), *empty]
    others = _misread_boxes(table) or _misread_classes(table) or _misread_images(table)
    return [*_misread_scores(table), *empty, *others]


class _Table:
    """Detections and objects as arrays, sorted by image id."""

    def __init__(self, results: Sequence[Result], ground_truth: Mapping[str, Any]) -> None:
        shapes = {image["id"]: (image["width"], image["height"]) for image in ground_truth["images"]}
        images = {key: index for index, key in enumerate(sorted(shapes))}
        categories = sorted(category["id"] for category in ground_truth["categories"])
        positions = {category: position for position, category in enumerate(categories)}
        sizes = np.array([shapes[key] for key in images], dtype=np.float64)
        self.classes = len(categories)
        self.images = len(images)
        rows = sorted(results, key=lambda row: images[row["image_id"]])
        self.image = np.array([images[row["image_id"]] for row in rows])
        self.label = np.array([positions[row["category_id"]] for row in rows])
        self.score = np.array([row["score"] for row in rows])
        self.box = np.array([row["bbox"] for row in rows], dtype=np.float64).reshape(-1, 4)
        self.size = sizes[self.image]  # (N, 2): width and height of the image of each detection
        objects = [row for row in ground_truth.get("annotations", ()) if not row.get("iscrowd")]
        objects.sort(key=lambda row: images[row["image_id"]])
        self.object_image = np.array([images[row["image_id"]] for row in objects], dtype=np.int64)
        self.object_label = np.array([positions[row["category_id"]] for row in objects], dtype=np.int64)
        self.object_box = _to_corners(np.array([row["bbox"] for row in objects], dtype=np.float64).reshape(-1, 4))

    def overlaps(self, corners: _Array, shift: int = 0) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Match boxes with the objects of an image, of any class.

        Args:
            corners: (N, 4) x1, y1, x2, y2 of each detection.
            shift: the boxes of an image are compared with the objects of the image that many places later.

        Returns:
            (N,) the object with the greatest IoU, -1 if it is below 0.5; and whether each object has such a detection.
        """
        nearest = np.full(len(corners), -1)
        overlapped = np.zeros(len(self.object_image), dtype=bool)
        for image in np.unique(self.image):
            rows = _slice_of(self.image, image)
            objects = _slice_of(self.object_image, (image + shift) % self.images)
            if objects.start == objects.stop:
                continue
            ious = _iou(corners[rows], self.object_box[objects])
            nearest[rows] = np.where(ious.max(axis=1) >= _IOU, objects.start + ious.argmax(axis=1), -1)
            overlapped[objects] = ious.max(axis=0) >= _IOU
        return nearest, overlapped

    def count_overlapped(self, corners: _Array, shift: int = 0) -> int:
        """Return the number of objects that overlap a detection."""
        return int(self.overlaps(corners, shift)[1].sum())

    def recall(self, corners: _Array, shift: int = 0) -> float:
        """Return the share of the objects in the images with detections that overlap one."""
        _, overlapped = self.overlaps(corners, shift)
        relevant = np.isin(self.object_image, (np.unique(self.image) + shift) % self.images)
        return float(overlapped[relevant].mean()) if relevant.any() else 0.0


def _slice_of(sorted_values: NDArray[np.int64], value: int) -> slice:
    start, stop = np.searchsorted(sorted_values, [value, value + 1])
    return slice(int(start), int(stop))


def _iou(first: _Array, second: _Array) -> _Array:
    sides = np.minimum(first[:, None, 2:], second[None, :, 2:]) - np.maximum(first[:, None, :2], second[None, :, :2])
    inter = sides.clip(min=0).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(axis=1) for boxes in (first, second)]
    return inter / np.maximum(areas[0][:, None] + areas[1][None] - inter, 1e-9)


def _to_corners(boxes: _Array) -> _Array:
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def _from_center(boxes: _Array) -> _Array:
    return np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)


def _misread_scores(table: _Table) -> list[Misreading]:
    low, high = float(table.score.min()), float(table.score.max())
    if low >= 0 and high <= 1:
        return []
    reading = "they seem to be in percent" if low >= 0 and 1 < high <= 100 else "they seem to be no probabilities"
    text = f"scores are from {low:.4g} to {high:.4g}, expected 0 to 1: {reading}; AP depends on their order only"
    return [Misreading(text, False)]


def _empty_boxes(table: _Table) -> list[Misreading]:
    negative, empty = (table.box[:, 2:] < 0).any(axis=1), (table.box[:, 2:] <= 0).any(axis=1)
    if not negative.any() and empty.mean() < 0.02:  # clipping to the image may leave a few empty
        return []
    observed = "negative" if negative.all() else "0 or negative" if negative.any() else "0"
    text = f"in {empty.sum()} of {len(table.box)} detections the width or height of bbox is {observed}"
    return [Misreading(f"{text}: they overlap no object", False)]


def _misread_boxes(table: _Table) -> list[Misreading]:
    box, size = table.box, table.size
    as_is = _to_corners(box)
    recall = table.recall(as_is)
    if (np.abs(box) <= _SLACK).all() and (size > 2).all():
        scaled = box * np.tile(size, 2)
        readings = {
            "x1, y1, x2, y2": scaled,
            "x, y, width, height": _to_corners(scaled),
            "the center, width and height": _from_center(scaled),
        }
        name, best = max(((name, table.recall(boxes)) for name, boxes in readings.items()), key=lambda pair: pair[1])
        shape = f", as {name}" if best > 0 else ""
        text = f"no number in bbox is above 1: boxes seem to be relative to the size of the image{shape}"
        return [Misreading(text, best > recall or (recall == 0 and len(box) >= _ENOUGH))]
    leaving = (as_is[:, 2:] > _SLACK * size + 1).any(axis=1).mean()
    ordered = (box[:, 2:] >= box[:, :2]) & (box[:, 2:] <= _SLACK * size + 1)
    like_corners = ordered.all(axis=1).mean() >= 0.99
    corners = table.recall(box) if like_corners else 0.0
    centers = table.recall(_from_center(box)) if recall <= 0.25 else 0.0
    if (leaving >= 0.2 and like_corners) or _is_better(corners, recall):
        text = f"in {leaving:.0%} of the detections x + width or y + height leaves the image"
        if corners > 0:
            text += f", and {corners:.0%} of the objects overlap one that is read as corners ({recall:.0%} as it is)"
        certain = _is_better(corners, recall) and table.count_overlapped(box) >= _ENOUGH
        return [Misreading(f"{text}: bbox seems to be x1, y1, x2, y2", certain)]
    if _is_better(centers, recall):
        text = f"{centers:.0%} of the objects overlap a detection that is read by its center ({recall:.0%} as it is)"
        certain = table.count_overlapped(_from_center(box)) >= _ENOUGH
        return [Misreading(f"{text}: bbox seems to be the center, width and height", certain)]
    outside = (box[:, :2] >= size).any(axis=1).mean()
    if outside >= 0.02:
        text = f"{outside:.0%} of the detections begin outside of their image"
        return [Misreading(f"{text}: boxes seem to be of images of another size, or image ids of other images", False)]
    return []


def _is_better(other: float, recall: float) -> bool:
    """Return whether a reading finds the objects and the numbers as they are do not."""
    return other >= 0.3 and other >= 4 * recall


def _misread_classes(table: _Table) -> list[Misreading]:
    nearest, _ = table.overlaps(_to_corners(table.box))
    hits = nearest >= 0
    if hits.sum() < 2:
        return []
    label, true = table.label[hits], table.object_label[nearest[hits]]
    agreeing = (label == true).mean()
    for shift, absent, place, low, start in (
        (1, table.classes - 1, "last", "low", 0),
        (-1, 0, "first", "high", 1),
    ):
        shifted = (label + shift == true).mean()
        if agreeing < 0.1 and shifted >= 0.8 and not (table.label == absent).any():
            text = (
                f"no detection has the {place} category, and of those that overlap an object {agreeing:.0%} have its "
                f"category: category ids seem to be one too {low} (classes numbered from {start}), with which "
                f"{shifted:.0%} have it"
            )
            return [Misreading(text, len(np.unique(label)) > 2 and int(hits.sum()) >= _ENOUGH)]
    return []


def _misread_images(table: _Table) -> list[Misreading]:
    boxes = _to_corners(table.box)
    if not len(table.object_image):
        return []
    nearest, overlapped = table.overlaps(boxes)
    recall = table.recall(boxes)
    others = {shift: table.recall(boxes, shift) for shift in (-1, 1, 2) if abs(shift) < table.images}
    for shift, direction, other in ((-1, "high", "before"), (1, "low", "after")):
        if _is_better(others.get(shift, 0.0), recall):
            text = (
                f"{recall:.0%} of the objects overlap a detection of their image, and {others[shift]:.0%} are "
                f"overlapped if each detection is of the image with the id {other} its own: image ids seem to be one "
                f"too {direction}"
            )
            return [Misreading(text, table.count_overlapped(boxes, shift) >= _ENOUGH)]
    chance = max(others.values(), default=0.0)
    by_chance = recall < 0.5 and recall <= 1.25 * chance and len(table.object_image) >= 10
    few = recall <= 0.05 and (nearest >= 0).mean() <= 0.05 and len(overlapped) >= _ENOUGH
    if by_chance or few or recall == 0:
        text = (
            f"{recall:.0%} of the objects overlap a detection of their image, and {chance:.0%} one of another image: "
            "the image ids seem to be of another data set, or nothing was learned"
        )
        return [Misreading(text, False)]
    covered = len(np.intersect1d(table.image, table.object_image))
    with_objects = len(np.unique(table.object_image))
    if covered < with_objects / 2:
        return [Misreading(f"only {covered} of {with_objects} images with objects have a detection", False)]
    return []
