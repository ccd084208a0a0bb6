"""Checks of bounding boxes (NaN, no area, outside the image, other conventions), and their repair."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from drfpn.data.annotations import Annotations
from drfpn.data.validation.issues import Issue, OnBad, check_on_bad, invalid_objects_error, raise_issue

MAX_OVERHANG = 1.0
"""Pixels by which a box may extend beyond its image: rounding and 1-based coordinates cause as much."""

_EXPECTED = {
    "box-nan": "four finite numbers",
    "box-without-area": "a width and a height above 0",
    "box-outside": "a box inside the image",
    "box-reaches-out": f"a box that leaves the image by no more than {MAX_OVERHANG:g} px",
}


BOX_KINDS = tuple(_EXPECTED)
"""Kinds of issues of single boxes."""


def find_invalid_boxes(annotations: Annotations) -> dict[str, NDArray[np.bool_]]:
    """Return for each kind of issue a mask (N,) of the boxes that have it; a box has at most one.

    Boxes of images of unknown size are only checked for issues that do not depend on the size.
    """
    x1, y1, width, height = annotations.boxes.T
    size = annotations.sizes[annotations.image_indices()]
    size_known = (size > 0).all(axis=1)
    nan = ~np.isfinite(annotations.boxes).all(axis=1)
    with np.errstate(invalid="ignore"):
        x2, y2 = x1 + width, y1 + height
        empty = ~nan & ((width <= 0) | (height <= 0))
        usable = size_known & ~nan & ~empty
        outside = usable & ((x2 <= 0) | (y2 <= 0) | (x1 >= size[:, 1]) | (y1 >= size[:, 0]))
        overhang = np.stack([-x1, -y1, x2 - size[:, 1], y2 - size[:, 0]]).max(axis=0)
    return {
        "box-nan": nan,
        "box-without-area": empty,
        "box-outside": outside,
        "box-reaches-out": usable & ~outside & (overhang > MAX_OVERHANG),
    }


def box_issues(annotations: Annotations) -> Iterator[Issue]:
    """Yield an issue for each invalid box, in the order of the objects."""
    invalid = find_invalid_boxes(annotations)
    image_indices = annotations.image_indices()
    kinds = np.select(list(invalid.values()), list(range(1, len(invalid) + 1)), default=0)
    for index in np.flatnonzero(kinds).tolist():
        yield _box_issue(annotations, index, int(image_indices[index]), list(invalid)[kinds[index] - 1])


def box_convention_issue(annotations: Annotations, min_count: int = 5, min_fraction: float = 0.01) -> Issue | None:
    """Return an issue if boxes were written in another convention than x, y, width, height in pixels.

    - Relative coordinates: all four numbers lie between 0 and 1, as of hardly any box in pixels.
    - Corners x1, y1, x2, y2: read as sizes, most extend beyond their image, and nearly all of these lie inside it as
      corners. Of imprecise boxes, which extend beyond their image too, hardly half do: x would have to be less than
      the width, and y less than the height.

    Args:
        annotations: of a split, with the sizes of images as far as they are known.
        min_count: number of boxes in the other convention from which there is an issue.
        min_fraction: fraction of all boxes for the same, so that a part written by another tool is recognized too.
    """
    threshold = max(min_count, min_fraction * len(annotations.boxes))
    location, expected = str(annotations.source), "x, y, width, height in pixels"
    boxes, image_indices = annotations.boxes, annotations.image_indices()
    relative = ((boxes >= 0) & (boxes <= 1)).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1)
    relative &= (annotations.sizes.max(axis=1) >= 16)[image_indices]  # in smaller images a box of 1 px is plausible
    total = len(boxes)
    if (count := int(relative.sum())) >= threshold:
        observed = f"{count} of {total} boxes lie between 0 and 1, as if they were fractions of the image"
        return Issue("box-convention", location, observed, expected)
    invalid = find_invalid_boxes(annotations)
    out = invalid["box-outside"] | invalid["box-reaches-out"]
    x1, y1, x2, y2 = boxes[out].T
    height, width = annotations.sizes[image_indices[out]].T
    inside = (x1 >= 0) & (x1 < x2) & (x2 <= width + MAX_OVERHANG)
    inside &= (y1 >= 0) & (y1 < y2) & (y2 <= height + MAX_OVERHANG)
    if (count := int(inside.sum())) >= max(threshold, 0.9 * len(inside)):
        observed = (
            f"{len(inside)} of {total} boxes leave their image, and {count} of these lie inside of it as x1, y1, x2, y2"
        )
        return Issue("box-convention", location, observed, expected)
    return None


def sanitize_boxes(
    annotations: Annotations, on_bad: OnBad = "error", dropped: list[Issue] | None = None
) -> tuple[Annotations, list[str]]:
    """Drop or repair boxes that cannot be trained on.

    A box is invalid if it is not finite, has no area, lies outside its image, or extends beyond it by more than
    1 px. A smaller overhang is kept (the training target is clipped).

    Args:
        annotations: of a split, with the sizes of images as far as they are known.
        on_bad: ``"error"`` raises for the first invalid box, ``"skip"`` drops every invalid box, ``"fix"`` clips
            those that extend beyond their image and drops the rest.
        dropped: the issue of each dropped box is appended to it.

    Returns:
        The annotations, and one line for each change.

    Raises:
        UsageError: ``on_bad`` is none of the three.
        UserError: ``on_bad`` is ``"error"`` and a box is invalid, or the boxes are in another convention, which neither
            dropping nor clipping fixes.
    """
    check_on_bad(on_bad)
    if (issue := box_convention_issue(annotations)) is not None:
        raise_issue(issue)
    invalid = find_invalid_boxes(annotations)
    count = sum(int(mask.sum()) for mask in invalid.values())
    if not count:
        return annotations, []
    if on_bad == "error":
        raise invalid_objects_error(next(box_issues(annotations)), count, len(annotations.boxes), "boxes")
    changes = []
    overhanging = invalid["box-reaches-out"]
    if on_bad == "fix":
        if overhanging.any():
            annotations = _clip(annotations, overhanging)
            changes.append(f"{annotations.source}: clipped {_box_count(overhanging)} that reached out of the image.")
        invalid = {kind: mask for kind, mask in invalid.items() if kind != "box-reaches-out"}
    for kind, mask in invalid.items():
        if mask.any():
            changes.append(f"{annotations.source}: dropped {_box_count(mask)} ({_EXPECTED[kind]} expected).")
    if dropped is not None:
        dropped += [issue for issue in box_issues(annotations) if issue.kind in invalid]
    return annotations.select_objects(~np.logical_or.reduce(list(invalid.values()))), changes


def clip_xywh(boxes: NDArray[np.float64], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Clip boxes (N, 4: x, y, width, height) to images of ``sizes`` (N, 2: height, width)."""
    limit = sizes[:, ::-1].astype(np.float64)
    top_left = boxes[:, :2].clip(0, limit)
    bottom_right = (boxes[:, :2] + boxes[:, 2:]).clip(0, limit)
    return np.concatenate([top_left, bottom_right - top_left], axis=1)


def _clip(annotations: Annotations, mask: NDArray[np.bool_]) -> Annotations:
    boxes, areas = annotations.boxes.copy(), annotations.areas.copy()
    boxes[mask] = clip_xywh(boxes[mask], annotations.sizes[annotations.image_indices()[mask]])
    areas[mask] = np.minimum(areas[mask], boxes[mask, 2] * boxes[mask, 3])
    return replace(annotations, boxes=boxes, areas=areas)


def _box_issue(annotations: Annotations, index: int, image_index: int, kind: str) -> Issue:
    x, y, width, height = annotations.boxes[index].tolist()
    return Issue(
        kind,
        annotations.describe_object(index, image_index),
        f"the box is x {x:g}, y {y:g}, width {width:g}, height {height:g}",
        _EXPECTED[kind],
    )


def _box_count(mask: NDArray[np.bool_]) -> str:
    count = int(mask.sum())
    return f"{count} box" if count == 1 else f"{count} boxes"
