"""Which objects of a data set the anchors or points of a detector can be matched with at all."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from torchvision.models.detection import FCOS

from drfpn.data.stats import MEDIUM_BELOW, SMALL_BELOW, Objects

EXAMPLES = 5
_CHUNK = 100_000

Array = NDArray[np.float64]


class Recall(BaseModel):
    """The best that a detector's anchors, or the points of FCOS, can do on a data set."""

    by: str
    """``anchors`` or ``points``."""
    objects: int
    recall: dict[str, float]
    """Share of ``all``, ``small``, ``medium``, ``large`` objects that an anchor overlaps by an IoU of 0.5 or more, or
    that a point belongs to; -1 where there are none."""
    missed: int
    """Objects that are not among these."""
    threshold: float
    """IoU from which an anchor is taken for an object in training; 0 for points."""
    below: int
    """Objects whose best anchor is below that threshold, or that have no point."""
    examples: list[str]
    """Up to five of these, the worst first."""


class Level(NamedTuple):
    """One level of a pyramid, for N objects."""

    grid: Array
    """(N, 2) cells in x and y."""
    step: Array
    """(N, 2) pixels between cells in x and y."""
    cells: Array
    """(A, 4) anchors of the cell at 0, 0: x1, y1, x2, y2."""


def best_possible_recall(model: Any, objects: Objects) -> Recall:
    """Match all objects of a data set with the anchors that a detector would have in their images.

    Args:
        model: Made by ``build_detector``; its anchors, sizes of images and thresholds are used, its weights are not.
        objects: Of a split; crowd regions do not count.
    """
    known = objects.sizes.min(axis=1, initial=1) > 0  # an image that cannot be read has no size
    chosen = np.flatnonzero(~objects.crowd & known[objects.images])
    points = isinstance(model, FCOS)
    quality = np.concatenate([_quality(model, objects, part, points) for part in _chunks(chosen)] or [np.zeros(0)])
    areas = objects.areas[chosen]
    small, medium = areas < SMALL_BELOW, areas < MEDIUM_BELOW
    groups = {"all": np.ones_like(small), "small": small, "medium": medium & ~small, "large": ~medium}
    threshold = 0.0 if points else _positive(model)
    below = quality == 0 if points else quality < threshold
    worst = np.flatnonzero(below)[np.argsort(quality[below], kind="stable")][:EXAMPLES]
    return Recall(
        by="points" if points else "anchors",
        objects=len(chosen),
        recall={name: float((quality[of] >= 0.5).mean()) if of.any() else -1.0 for name, of in groups.items()},
        missed=int((quality < 0.5).sum()),
        threshold=threshold,
        below=int(below.sum()),
        examples=[_describe(objects, int(chosen[i]), None if points else float(quality[i])) for i in worst],
    )


def _chunks(indices: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(indices), _CHUNK):
        yield indices[start : start + _CHUNK]


def _positive(model: Any) -> float:
    return float(getattr(model, "rpn", model).proposal_matcher.high_threshold)


def _quality(model: Any, objects: Objects, chosen: NDArray[np.int64], points: bool) -> Array:
    """Return for each chosen object the IoU of its best anchor; 1 or 0 for whether it has a point."""
    resize = model.transform
    boxes, sizes = resized(
        objects.boxes[chosen], objects.sizes[objects.images[chosen]], resize.min_size[-1], resize.max_size
    )
    levels = pyramid_levels(model, sizes)
    if points:
        return has_point(boxes, levels, model.center_sampling_radius).astype(np.float64)
    return best_iou(boxes, levels)


def resized(boxes: Array, sizes: NDArray[np.int64], min_size: int, max_size: int) -> tuple[Array, NDArray[np.int64]]:
    """Return boxes x1, y1, x2, y2 and (height, width) as ``detectors.transform.Transform`` makes them.

    Args:
        boxes: (N, 4) x, y, width, height in pixels.
        sizes: (N, 2) height and width of their images.
        min_size: Of the shorter side.
        max_size: Of the longer side, at most.
    """
    scale = np.minimum(min_size / sizes.min(axis=1), max_size / sizes.max(axis=1))
    new = np.maximum(1, (sizes * scale[:, None]).astype(np.int64))
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    return corners * np.tile((new / sizes)[:, ::-1], 2), new


def pyramid_levels(model: Any, sizes: NDArray[np.int64]) -> list[Level]:
    """Return the levels of images of ``sizes`` (N, 2: height, width) that are padded alone, not in a batch."""
    divisor = model.transform.size_divisible
    padded = -(-sizes[:, ::-1] // divisor) * divisor
    cells = getattr(model, "rpn", model).anchor_generator.cell_anchors
    strides = model.backbone.body.strides
    levels, grid = [], padded
    for index, anchors in enumerate(cells):
        # levels that are added on top of the backbone's halve the one before, and round up
        grid = padded // strides[index] if index < len(strides) else -(-grid // 2)
        step = padded // grid  # as torchvision's generator does: 56 px for 4 cells of 224
        levels.append(Level(grid.astype(np.float64), step.astype(np.float64), anchors.double().numpy()))
    return levels


def best_iou(boxes: Array, levels: list[Level]) -> Array:
    """Return the IoU of each box (N, 4) with the best of all anchors, (N,).

    Of the anchors of one form on a level the one whose centre is nearest has the largest overlap, in x and in y alike:
    overlap falls to both sides of the centre. So one anchor for each form and level is enough.
    """
    best = np.zeros(len(boxes))
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    for level in levels:
        for cell in level.cells:
            place = np.rint((centre - (cell[:2] + cell[2:]) / 2) / level.step).clip(0, level.grid - 1)
            corner = place * level.step
            overlap = np.minimum(boxes[:, 2:], corner + cell[2:]) - np.maximum(boxes[:, :2], corner + cell[:2])
            shared = overlap.clip(0).prod(axis=1)
            union = area + (cell[2:] - cell[:2]).prod() - shared
            best = np.maximum(best, shared / union)
    return best


def has_point(boxes: Array, levels: list[Level], radius: float) -> NDArray[np.bool_]:
    """Return whether a point of FCOS may belong to each box (N, 4), other boxes aside.

    A point belongs to a box that it lies in, within ``radius`` strides of its centre, if the farthest side is 4 to 8
    strides away: less on the finest level, and more on the coarsest.

    In x and in y alike the nearest point to the centre has the nearest farthest side, and the first and last point in
    the box have the farthest. Neighbours differ by a stride, so that nothing between the two is jumped over.
    """
    found = np.zeros(len(boxes), dtype=np.bool_)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    for index, level in enumerate(levels):
        side = float(level.cells[0, 2] - level.cells[0, 0])
        low = 4 * side if index else 0.0
        high = 8 * side if index < len(levels) - 1 else np.inf
        reach = radius * side
        # the open interval in which points count, and the first and last number of a point in it
        start, end = np.maximum(boxes[:, :2], centre - reach), np.minimum(boxes[:, 2:], centre + reach)
        first = (np.floor(start / level.step) + 1).clip(0, None)
        last = np.minimum(np.ceil(end / level.step) - 1, level.grid - 1)
        inside = (first <= last).all(axis=1)
        nearest = np.rint(centre / level.step).clip(first, np.maximum(first, last))
        least, most = (
            np.maximum.reduce(
                [np.maximum(place * level.step - boxes[:, :2], boxes[:, 2:] - place * level.step) for place in places]
            )
            for places in ([nearest], [first, last])
        )
        found |= inside & (least.max(axis=1) < high) & (most.max(axis=1) > low)
    return found


def _describe(objects: Objects, index: int, iou: float | None) -> str:
    width, height = objects.boxes[index, 2:].tolist()
    image = int(objects.images[index])
    label = objects.classes[int(objects.labels[index]) - 1]
    quality = "has no point" if iou is None else f"has an anchor of IoU {iou:.2f} at best"
    return f"{objects.names[image]}: '{label}' of {width:.4g} x {height:.4g} px {quality}"
