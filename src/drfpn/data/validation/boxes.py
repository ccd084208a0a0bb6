"""The rules for a usable box, and what to do with the others."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from drfpn.data.annotations import Annotations
from drfpn.data.validation.problems import Problem, raise_problem, refusal
from drfpn.utils.errors import UserError

OnBad = Literal["error", "skip", "fix"]

OVERHANG = 1.0
"""Pixels that a box may reach out of its image: what rounding and 1-based coordinates produce."""

_EXPECTED = {
    "box-nan": "four finite numbers",
    "box-without-area": "a width and a height above 0",
    "box-outside": "a box inside the image",
    "box-reaches-out": f"a box that leaves the image by no more than {OVERHANG:g} px",
}


def find_bad_boxes(annotations: Annotations) -> dict[str, NDArray[np.bool_]]:
    """Return for each kind of fault a mask (N,) of the boxes that have it; a box has at most one.

    Boxes of images without a known size are only checked for what needs no size.
    """
    x1, y1, width, height = annotations.boxes.T
    size = annotations.sizes[annotations.image_of_object()]
    known = (size > 0).all(axis=1)
    nan = ~np.isfinite(annotations.boxes).all(axis=1)
    with np.errstate(invalid="ignore"):
        x2, y2 = x1 + width, y1 + height
        empty = ~nan & ((width <= 0) | (height <= 0))
        usable = known & ~nan & ~empty
        outside = usable & ((x2 <= 0) | (y2 <= 0) | (x1 >= size[:, 1]) | (y1 >= size[:, 0]))
        over = np.stack([-x1, -y1, x2 - size[:, 1], y2 - size[:, 0]]).max(axis=0) > OVERHANG
    return {
        "box-nan": nan,
        "box-without-area": empty,
        "box-outside": outside,
        "box-reaches-out": usable & ~outside & over,
    }


def box_problems(annotations: Annotations) -> Iterator[Problem]:
    """Yield each bad box as a problem, in the order of the objects."""
    bad = find_bad_boxes(annotations)
    image_of = annotations.image_of_object()
    kinds = np.select(list(bad.values()), list(range(1, len(bad) + 1)), default=0)
    for index in np.flatnonzero(kinds).tolist():
        yield _problem(annotations, index, int(image_of[index]), list(bad)[kinds[index] - 1])


def convention_problem(annotations: Annotations, at_least: int = 5, share: float = 0.01) -> Problem | None:
    """Recognise boxes that were written in another convention than x, y, width, height in pixels.

    - Shares of the image: all four numbers lie between 0 and 1, as of hardly any box in pixels.
    - Corners x1, y1, x2, y2: read as sizes, most reach out of their image, and nearly all that do are inside of it as
      corners. Of boxes that were drawn carelessly, which reach out too, hardly half are: x would have to be less than
      the width, and y than the height.

    Args:
        annotations: With sizes, as far as they are known.
        at_least: Boxes that must speak for the other convention.
        share: Of all boxes that must, as well; so that a part of the data written by another tool is found.
    """
    wanted = max(at_least, share * len(annotations.boxes))
    where, expected = str(annotations.source), "x, y, width, height in pixels"
    boxes = annotations.boxes
    shares = ((boxes >= 0) & (boxes <= 1)).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1)
    shares &= (annotations.sizes.max(axis=1) >= 16)[annotations.image_of_object()]  # where a pixel is not a share
    total = len(boxes)
    if (count := int(shares.sum())) >= wanted:
        found = f"{count} of {total} boxes lie between 0 and 1, as if they were shares of the image"
        return Problem("box-convention", where, found, expected)
    bad = find_bad_boxes(annotations)
    out = bad["box-outside"] | bad["box-reaches-out"]
    x1, y1, x2, y2 = boxes[out].T
    height, width = annotations.sizes[annotations.image_of_object()[out]].T
    corners = (x1 >= 0) & (x1 < x2) & (x2 <= width + OVERHANG) & (y1 >= 0) & (y1 < y2) & (y2 <= height + OVERHANG)
    if (count := int(corners.sum())) >= max(wanted, 0.9 * len(corners)):
        found = (
            f"{len(corners)} of {total} boxes leave their image, and {count} of these "
            "lie inside of it as x1, y1, x2, y2"
        )
        return Problem("box-convention", where, found, expected)
    return None


def clean(
    annotations: Annotations, on_bad: OnBad = "error", dropped: list[Problem] | None = None
) -> tuple[Annotations, list[str]]:
    """Make sure that every box can be trained on.

    Bad is a box that is not finite, has no area, lies outside its image, or reaches out of it by more than
    1 px. A smaller overhang is left as it is (the training target clips it).

    Args:
        annotations: With sizes, as far as they are known.
        on_bad: ``"error"`` raises for the first bad box, ``"skip"`` drops every bad box, ``"fix"`` clips
            those that reach out of their image and drops the rest.
        dropped: Is given each box that is dropped.

    Returns:
        The annotations, and one line for each thing that was done.

    Raises:
        UserError: ``on_bad`` is ``"error"`` and a box is bad, or ``on_bad`` is none of the three, or the boxes are
            written in another convention, which neither dropping nor clipping mends.
    """
    if on_bad not in ("error", "skip", "fix"):
        raise UserError(f"--on-bad is '{on_bad}', expected 'error', 'skip' or 'fix'.", exit_code=2)
    if (problem := convention_problem(annotations)) is not None:
        raise_problem(problem)
    bad = find_bad_boxes(annotations)
    count = sum(int(mask.sum()) for mask in bad.values())
    if not count:
        return annotations, []
    if on_bad == "error":
        raise refusal(next(box_problems(annotations)), count, len(annotations.boxes), "boxes")
    lines = []
    reaching = bad["box-reaches-out"]
    if on_bad == "fix":
        if reaching.any():
            annotations = _clip(annotations, reaching)
            lines.append(f"{annotations.source}: clipped {_boxes(reaching)} that reached out of the image.")
        bad = {kind: mask for kind, mask in bad.items() if kind != "box-reaches-out"}
    for kind, mask in bad.items():
        if mask.any():
            lines.append(f"{annotations.source}: dropped {_boxes(mask)} ({_EXPECTED[kind]} expected).")
    drop = np.logical_or.reduce(list(bad.values()))
    if dropped is not None:
        dropped += [problem for problem in box_problems(annotations) if problem.kind in bad]
    return annotations.keep(~drop), lines


def clip_xywh(boxes: NDArray[np.float64], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Cut boxes (N, 4: x, y, width, height) to images of ``sizes`` (N, 2: height, width)."""
    limit = sizes[:, ::-1].astype(np.float64)
    top_left = boxes[:, :2].clip(0, limit)
    bottom_right = (boxes[:, :2] + boxes[:, 2:]).clip(0, limit)
    return np.concatenate([top_left, bottom_right - top_left], axis=1)


def _clip(annotations: Annotations, mask: NDArray[np.bool_]) -> Annotations:
    boxes, areas = annotations.boxes.copy(), annotations.areas.copy()
    boxes[mask] = clip_xywh(boxes[mask], annotations.sizes[annotations.image_of_object()[mask]])
    areas[mask] = np.minimum(areas[mask], boxes[mask, 2] * boxes[mask, 3])
    return replace(annotations, boxes=boxes, areas=areas)


def _problem(annotations: Annotations, index: int, image: int, kind: str) -> Problem:
    x, y, width, height = annotations.boxes[index].tolist()
    return Problem(
        kind,
        annotations.name_of_object(index, image),
        f"the box is x {x:g}, y {y:g}, width {width:g}, height {height:g}",
        _EXPECTED[kind],
    )


def _boxes(mask: NDArray[np.bool_]) -> str:
    count = int(mask.sum())
    return f"{count} box" if count == 1 else f"{count} boxes"
