"""The rules for a usable segmentation, and what to do with the others."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from drfpn.data.annotations import Annotations
from drfpn.data.masks.rle import area, rle_fault
from drfpn.data.validation.boxes import OnBad
from drfpn.data.validation.problems import Problem, refusal
from drfpn.utils.errors import UserError

_EXPECTED = {
    "mask-missing": "polygons or RLE",
    "mask-polygon": "polygons of at least three points: [x, y, x, y, x, y, ...], all finite",
    "mask-rle": "RLE whose size is the image's [height, width] and whose counts add up to its pixels",
    "mask-outside": "a mask inside the image",
    "mask-empty": "at least one pixel",
}

Fault = tuple[str, str]
"""A key of ``_EXPECTED``, and what was found."""


def find_fault(segmentation: Any, height: int, width: int) -> Fault | None:
    """Return why a segmentation cannot be drawn, or lies wholly outside; ``None`` for one that is sound.

    Only its form is looked at and nothing is drawn: a sound one may still cover no pixel, if its polygons are too
    thin.

    Args:
        segmentation: Polygons, RLE (compressed or not), or ``None``.
        height: Of the image, in pixels.
        width: Of the image, in pixels.
    """
    if segmentation is None:
        return "mask-missing", "it has no segmentation"
    if isinstance(segmentation, dict):
        found = rle_fault(segmentation, height, width)
        return None if found is None else ("mask-rle", found)
    if not isinstance(segmentation, list) or not segmentation:
        return "mask-polygon", f"its segmentation is {segmentation!r:.60}"
    for number, polygon in enumerate(segmentation, start=1):
        found = _polygon_fault(polygon)
        if found is not None:
            return "mask-polygon", f"polygon {number} of {len(segmentation)} {found}"
    if all(_is_outside(polygon, height, width) for polygon in segmentation):
        x, y = segmentation[0][:2]
        return "mask-outside", f"its polygons, from x {x:g}, y {y:g} on, do not meet the image"
    return None


def mask_problems(annotations: Annotations) -> Iterator[Problem]:
    """Yield each bad segmentation as a problem, and each that covers no pixel.

    Nothing is wrong with a data set that has no segmentation at all. Images without a known size are left out.
    """
    if annotations.segmentations is None:
        return
    for index, image, segmentation in _objects(annotations):
        height, width = annotations.sizes[image].tolist()
        if not height or not width:
            continue
        fault = find_fault(segmentation, height, width)
        if fault is None and not area(segmentation, height, width):
            fault = "mask-empty", "its segmentation covers no pixel"
        if fault is not None:
            yield _problem(annotations, index, image, fault)


def clean_masks(
    annotations: Annotations, on_bad: OnBad = "error", dropped: list[Problem] | None = None
) -> tuple[Annotations, list[str]]:
    """Make sure that every object has a segmentation that can be drawn.

    Bad is one that is missing, has a polygon of fewer than three points, of an odd count of numbers or not of
    finite ones, lies wholly outside its image, or is an RLE of another size or with counts that cannot be decoded or
    do not add up. A sound polygon that is too thin to cover a pixel is kept: its object is there, with an empty mask.

    Args:
        annotations: With the size of every image.
        on_bad: ``"error"`` raises for the first bad segmentation, ``"skip"`` drops its object, ``"fix"`` drops bad
            polygons where others remain, else the object.
        dropped: Is given each segmentation whose object is dropped.

    Returns:
        The annotations, and one line for each thing that was done.

    Raises:
        UserError: There is no segmentation at all, or ``on_bad`` is ``"error"`` and one is bad.
    """
    count = len(annotations.boxes)
    if annotations.segmentations is None:
        if not count:
            return annotations, []
        raise UserError(
            f"{annotations.source}: none of its {count} objects has a segmentation, expected polygons or RLE with "
            "each to draw masks from."
        )
    faults = _faults(annotations)
    if not faults:
        return annotations, []
    if on_bad == "error":
        index = next(iter(faults))
        first = _problem(annotations, index, int(annotations.image_of_object()[index]), faults[index])
        raise refusal(first, len(faults), count, "segmentations")
    lines = []
    if on_bad == "fix":
        annotations, fixed = _drop_polygons(annotations, faults)
        if fixed:
            lines.append(f"{annotations.source}: dropped bad polygons of {_objects_in_words(len(fixed))}.")
        faults = {index: fault for index, fault in faults.items() if index not in fixed}
    for kind, expected in _EXPECTED.items():
        number = sum(fault == kind for fault, _ in faults.values())
        if number:
            lines.append(f"{annotations.source}: dropped {_objects_in_words(number)} (expected {expected}).")
    if dropped is not None:
        image_of = annotations.image_of_object()
        dropped += [_problem(annotations, index, int(image_of[index]), fault) for index, fault in faults.items()]
    sound = np.ones(count, dtype=np.bool_)
    sound[list(faults)] = False
    return annotations.keep(sound), lines


def _objects(annotations: Annotations) -> Iterator[tuple[int, int, Any]]:
    """Yield index, index of the image and segmentation of each object."""
    assert annotations.segmentations is not None
    for index, image in enumerate(annotations.image_of_object().tolist()):
        yield index, image, annotations.segmentations[index]


def _faults(annotations: Annotations) -> dict[int, Fault]:
    """Return the fault of each object that has one, by index and in order."""
    sizes = annotations.sizes.tolist()
    faults = {}
    for index, image, segmentation in _objects(annotations):
        height, width = sizes[image]
        fault = find_fault(segmentation, height, width)
        if fault is not None:
            faults[index] = fault
    return faults


def _polygon_fault(polygon: Any) -> str | None:
    if not isinstance(polygon, list):
        return f"is {polygon!r:.60}"
    if len(polygon) < 6 or len(polygon) % 2:
        return f"has {len(polygon)} numbers"
    try:
        finite = math.isfinite(sum(polygon))  # of thousands of numbers at C's speed
    except (TypeError, OverflowError):
        finite = False
    return None if finite else f"is {polygon!r:.60}"


def _is_outside(polygon: list[float], height: int, width: int) -> bool:
    xs, ys = polygon[::2], polygon[1::2]
    return max(xs) < 0 or max(ys) < 0 or min(xs) > width or min(ys) > height


def _drop_polygons(annotations: Annotations, faults: dict[int, Fault]) -> tuple[Annotations, set[int]]:
    """Keep the sound polygons of bad segmentations; returns also which objects this has mended."""
    assert annotations.segmentations is not None
    image_of = annotations.image_of_object()
    changes: dict[int, Any] = {}
    for index, (kind, _) in faults.items():
        segmentation = annotations.segmentations[index]
        if kind == "mask-polygon" and isinstance(segmentation, list):
            height, width = annotations.sizes[image_of[index]].tolist()
            sound = [polygon for polygon in segmentation if _polygon_fault(polygon) is None]
            if find_fault(sound, height, width) is None:
                changes[index] = sound
    return replace(annotations, segmentations=annotations.segmentations.replace(changes)), set(changes)


def _problem(annotations: Annotations, index: int, image: int, fault: Fault) -> Problem:
    kind, found = fault
    return Problem(kind, annotations.name_of_object(index, image), found, _EXPECTED[kind])


def _objects_in_words(count: int) -> str:
    return f"{count} object" if count == 1 else f"{count} objects"
