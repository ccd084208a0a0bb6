"""Checks of segmentations (polygons and RLE), and their repair."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from drfpn.data.annotations import Annotations
from drfpn.data.masks.rle import area, find_rle_fault
from drfpn.data.validation.issues import Issue, OnBad, invalid_objects_error
from drfpn.utils.errors import UserError

_EXPECTED = {
    "mask-missing": "polygons or RLE",
    "mask-polygon": "polygons of at least three points: [x, y, x, y, x, y, ...], all finite",
    "mask-rle": "RLE whose size is the image's [height, width] and whose counts add up to its pixels",
    "mask-outside": "a mask inside the image",
    "mask-empty": "at least one pixel",
}

MASK_KINDS = tuple(_EXPECTED)
"""Kinds of issues of segmentations."""

Fault = tuple[str, str]
"""Kind of an issue, a key of ``_EXPECTED``, and what was observed."""


def find_segmentation_fault(segmentation: Any, height: int, width: int) -> Fault | None:
    """Return why a segmentation cannot be rasterized or that it lies outside the image; ``None`` if it is valid.

    Only the format is checked and nothing is rasterized: a valid segmentation may still cover no pixel, if its
    polygons are too thin.

    Args:
        segmentation: polygons, RLE (compressed or not), or ``None``.
        height: height of the image in pixels.
        width: width of the image in pixels.
    """
    if segmentation is None:
        return "mask-missing", "it has no segmentation"
    if isinstance(segmentation, dict):
        observed = find_rle_fault(segmentation, height, width)
        return None if observed is None else ("mask-rle", observed)
    if not isinstance(segmentation, list) or not segmentation:
        return "mask-polygon", f"its segmentation is {segmentation!r:.60}"
    for number, polygon in enumerate(segmentation, start=1):
        observed = _find_polygon_fault(polygon)
        if observed is not None:
            return "mask-polygon", f"polygon {number} of {len(segmentation)} {observed}"
    if all(_is_outside(polygon, height, width) for polygon in segmentation):
        x, y = segmentation[0][:2]
        return "mask-outside", f"its polygons, from x {x:g}, y {y:g} on, do not meet the image"
    return None


def mask_issues(annotations: Annotations) -> Iterator[Issue]:
    """Yield an issue for each invalid segmentation and each that covers no pixel.

    A data set without any segmentation has no issues. Images of unknown size are not checked.
    """
    if annotations.segmentations is None:
        return
    for index, image_index, segmentation in _iterate_segmentations(annotations):
        height, width = annotations.sizes[image_index].tolist()
        if not height or not width:
            continue
        fault = find_segmentation_fault(segmentation, height, width)
        if fault is None and not area(segmentation, height, width):
            fault = "mask-empty", "its segmentation covers no pixel"
        if fault is not None:
            yield _mask_issue(annotations, index, image_index, fault)


def sanitize_masks(
    annotations: Annotations, on_bad: OnBad = "error", dropped: list[Issue] | None = None
) -> tuple[Annotations, list[str]]:
    """Drop or repair segmentations that cannot be rasterized.

    A segmentation is invalid if it is missing, has a polygon of fewer than three points, of an odd count of numbers or
    not of finite ones, lies wholly outside its image, or is an RLE of another size or with counts that cannot be
    decoded or do not add up. A valid polygon that is too thin to cover a pixel is kept: its object has an empty mask.

    Args:
        annotations: of a split, with the size of every image.
        on_bad: ``"error"`` raises for the first invalid segmentation, ``"skip"`` drops its object, ``"fix"`` drops
            invalid polygons where valid ones remain, else the object.
        dropped: the issue of each dropped object is appended to it.

    Returns:
        The annotations, and one line for each change.

    Raises:
        UserError: there is no segmentation at all, or ``on_bad`` is ``"error"`` and one is invalid.
    """
    count = len(annotations.boxes)
    if annotations.segmentations is None:
        if not count:
            return annotations, []
        raise UserError(
            f"{annotations.source}: none of its {count} objects has a segmentation, expected polygons or RLE with "
            "each to draw masks from."
        )
    faults = _find_faults(annotations)
    if not faults:
        return annotations, []
    if on_bad == "error":
        index = next(iter(faults))
        first = _mask_issue(annotations, index, int(annotations.image_indices()[index]), faults[index])
        raise invalid_objects_error(first, len(faults), count, "segmentations")
    changes = []
    if on_bad == "fix":
        annotations, fixed = _drop_invalid_polygons(annotations, faults)
        if fixed:
            changes.append(f"{annotations.source}: dropped bad polygons of {_object_count(len(fixed))}.")
        faults = {index: fault for index, fault in faults.items() if index not in fixed}
    for kind, expected in _EXPECTED.items():
        number = sum(fault_kind == kind for fault_kind, _ in faults.values())
        if number:
            changes.append(f"{annotations.source}: dropped {_object_count(number)} (expected {expected}).")
    if dropped is not None:
        image_indices = annotations.image_indices()
        dropped += [_mask_issue(annotations, i, int(image_indices[i]), fault) for i, fault in faults.items()]
    valid = np.ones(count, dtype=np.bool_)
    valid[list(faults)] = False
    return annotations.select_objects(valid), changes


def _iterate_segmentations(annotations: Annotations) -> Iterator[tuple[int, int, Any]]:
    """Yield index, index of the image and segmentation of each object."""
    assert annotations.segmentations is not None
    for index, image_index in enumerate(annotations.image_indices().tolist()):
        yield index, image_index, annotations.segmentations[index]


def _find_faults(annotations: Annotations) -> dict[int, Fault]:
    """Return the faults of all invalid segmentations by index of the object, in order."""
    sizes = annotations.sizes.tolist()
    faults = {}
    for index, image_index, segmentation in _iterate_segmentations(annotations):
        height, width = sizes[image_index]
        fault = find_segmentation_fault(segmentation, height, width)
        if fault is not None:
            faults[index] = fault
    return faults


def _find_polygon_fault(polygon: Any) -> str | None:
    if not isinstance(polygon, list):
        return f"is {polygon!r:.60}"
    if len(polygon) < 6 or len(polygon) % 2:
        return f"has {len(polygon)} numbers"
    try:
        finite = math.isfinite(sum(polygon))  # faster than a loop over thousands of numbers
    except (TypeError, OverflowError):
        finite = False
    return None if finite else f"is {polygon!r:.60}"


def _is_outside(polygon: list[float], height: int, width: int) -> bool:
    xs, ys = polygon[::2], polygon[1::2]
    return max(xs) < 0 or max(ys) < 0 or min(xs) > width or min(ys) > height


def _drop_invalid_polygons(annotations: Annotations, faults: dict[int, Fault]) -> tuple[Annotations, set[int]]:
    """Keep only the valid polygons of invalid segmentations; return also the indices of the objects fixed by this."""
    assert annotations.segmentations is not None
    image_indices = annotations.image_indices()
    changes: dict[int, Any] = {}
    for index, (kind, _) in faults.items():
        segmentation = annotations.segmentations[index]
        if kind == "mask-polygon" and isinstance(segmentation, list):
            height, width = annotations.sizes[image_indices[index]].tolist()
            valid = [polygon for polygon in segmentation if _find_polygon_fault(polygon) is None]
            if find_segmentation_fault(valid, height, width) is None:
                changes[index] = valid
    return replace(annotations, segmentations=annotations.segmentations.replace(changes)), set(changes)


def _mask_issue(annotations: Annotations, index: int, image_index: int, fault: Fault) -> Issue:
    kind, observed = fault
    return Issue(kind, annotations.describe_object(index, image_index), observed, _EXPECTED[kind])


def _object_count(count: int) -> str:
    return f"{count} object" if count == 1 else f"{count} objects"
