"""Best possible recall: how many objects of a data set the anchors or points of a detector can be matched with."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from drfpn.data.annotations import Annotations
from drfpn.data.stats import MEDIUM_BELOW, SMALL_BELOW
from drfpn.detectors.base import DetectionModel

EXAMPLES = 5
_CHUNK = 100_000
"""Annotations that are matched at a time, to bound the memory."""

Array = NDArray[np.float64]


class BestPossibleRecall(BaseModel):
    """Highest recall on a data set that the anchors of a detector, or the points of FCOS, allow."""

    by: str
    """``anchors`` or ``points``."""
    objects: int
    recall: dict[str, float | None]
    """Fraction of ``all``, ``small``, ``medium``, ``large`` objects that have an anchor of IoU 0.5 or more, or a
    positive point; ``None`` where there are none."""
    missed: int
    """Annotations that have none."""
    threshold: float
    """IoU from which an anchor is positive in training; 0 for points."""
    below: int
    """Annotations whose best anchor is below that threshold, or that have no positive point."""
    examples: list[str]
    """Up to five of these, the worst first."""


class AnchorLevel(NamedTuple):
    """Anchors of one level, for N objects in images of different sizes."""

    grid: Array
    """(N, 2) cells in x and y."""
    stride: Array
    """(N, 2) pixels between cells in x and y."""
    base_anchors: Array
    """(A, 4) anchors of the cell at 0, 0: x1, y1, x2, y2."""


def best_possible_recall(model: DetectionModel, objects: Annotations) -> BestPossibleRecall:
    """Match all objects of a data set with the anchors that a detector would have in their images.

    Args:
        model: made by :func:`drfpn.build_detector`; its anchors, image sizes and thresholds are used, not its weights.
        objects: objects of a split; crowd regions are left out.
    """
    has_size = objects.sizes.min(axis=1, initial=1) > 0  # an image that cannot be read has no size
    indices = np.flatnonzero(~objects.crowd & has_size[objects.image_indices()])
    by_points = model.center_sampling_radius is not None
    quality = np.concatenate([_quality(model, objects, chunk) for chunk in _chunks(indices)] or [np.zeros(0)])
    areas = objects.areas[indices]
    small, medium = areas < SMALL_BELOW, areas < MEDIUM_BELOW
    groups = {"all": np.ones_like(small), "small": small, "medium": medium & ~small, "large": ~medium}
    threshold = 0.0 if by_points else model.fg_iou_threshold
    below = quality == 0 if by_points else quality < threshold
    worst = np.flatnonzero(below)[np.argsort(quality[below], kind="stable")][:EXAMPLES]
    return BestPossibleRecall(
        by="points" if by_points else "anchors",
        objects=len(indices),
        recall={name: float((quality[of] >= 0.5).mean()) if of.any() else None for name, of in groups.items()},
        missed=int((quality < 0.5).sum()),
        threshold=threshold,
        below=int(below.sum()),
        examples=[_describe(objects, int(indices[i]), None if by_points else float(quality[i])) for i in worst],
    )


def _chunks(indices: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(indices), _CHUNK):
        yield indices[start : start + _CHUNK]


def _quality(model: DetectionModel, objects: Annotations, indices: NDArray[np.int64]) -> Array:
    """Return for each object the IoU of its best anchor; for FCOS 1 if it has a positive point, else 0."""
    resize = model.transform
    boxes, sizes = resize_boxes(
        objects.boxes[indices], objects.sizes[objects.image_indices()[indices]], resize.min_size[-1], resize.max_size
    )
    levels = anchor_levels(model, sizes)
    if model.center_sampling_radius is not None:
        return has_positive_point(boxes, levels, model.center_sampling_radius).astype(np.float64)
    return best_iou(boxes, levels)


def resize_boxes(
    boxes: Array, sizes: NDArray[np.int64], min_size: int, max_size: int
) -> tuple[Array, NDArray[np.int64]]:
    """Resize images and their boxes as ``detectors.transform.Transform`` does.

    Args:
        boxes: (N, 4) x, y, width, height in pixels.
        sizes: (N, 2) height and width of their images, pixels.
        min_size: shorter side of a resized image, pixels.
        max_size: limit of its longer side, pixels.

    Returns:
        Boxes (N, 4) x1, y1, x2, y2 and sizes (N, 2) of the resized images.
    """
    scale = np.minimum(min_size / sizes.min(axis=1), max_size / sizes.max(axis=1))
    new_sizes = np.maximum(1, (sizes * scale[:, None]).astype(np.int64))
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    return corners * np.tile((new_sizes / sizes)[:, ::-1], 2), new_sizes


def anchor_levels(model: DetectionModel, sizes: NDArray[np.int64]) -> list[AnchorLevel]:
    """Compute the grid of anchors of each level for images that are padded one by one, not in a batch.

    Args:
        model: made by :func:`drfpn.build_detector`.
        sizes: (N, 2) height and width of the resized images, pixels.
    """
    divisor = model.transform.size_divisible
    padded = -(-sizes[:, ::-1] // divisor) * divisor
    levels = []
    for level, anchors in zip(model.backbone.out_levels(), model.cell_anchors, strict=True):
        grid = -(-padded // level.stride)  # an extra level rounds up where it halves a size
        stride = padded // grid  # as in torchvision's generator: 56 px for 4 cells of 224
        levels.append(AnchorLevel(grid.astype(np.float64), stride.astype(np.float64), anchors.double().numpy()))
    return levels


def best_iou(boxes: Array, levels: list[AnchorLevel]) -> Array:
    """Compute the highest IoU of each box with all anchors.

    Among the anchors of one shape on a level, the one with the nearest center has the largest overlap, in x and in y
    alike, since overlap decreases with the distance of the centers. So one anchor per shape and level is enough.

    Args:
        boxes: (N, 4) x1, y1, x2, y2 in pixels.
        levels: anchors of each level.

    Returns:
        (N,)
    """
    best = np.zeros(len(boxes))
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    for level in levels:
        for anchor in level.base_anchors:
            cell = np.rint((center - (anchor[:2] + anchor[2:]) / 2) / level.stride).clip(0, level.grid - 1)
            corner = cell * level.stride
            overlap = np.minimum(boxes[:, 2:], corner + anchor[2:]) - np.maximum(boxes[:, :2], corner + anchor[:2])
            intersection = overlap.clip(0).prod(axis=1)
            union = area + (anchor[2:] - anchor[:2]).prod() - intersection
            best = np.maximum(best, intersection / union)
    return best


def has_positive_point(boxes: Array, levels: list[AnchorLevel], radius: float) -> NDArray[np.bool_]:
    """Compute whether each box can have a positive point of FCOS, other boxes aside.

    A point is positive for a box if it lies in the box, within ``radius`` strides of its center, and the farthest side
    is 4 to 8 strides away: also less on the finest level, and more on the coarsest.

    In x and in y alike, the distance to the farthest side is least at the point nearest to the center, and largest at
    the first or last point in the box. Neighboring points differ by a stride, so no interval of 4 to 8 strides is
    skipped between them.

    Args:
        boxes: (N, 4) x1, y1, x2, y2 in pixels.
        levels: points of each level; ``base_anchors`` have one anchor with the stride as its side.
        radius: center sampling radius, strides.

    Returns:
        (N,)
    """
    result = np.zeros(len(boxes), dtype=np.bool_)
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    for index, level in enumerate(levels):
        side = float(level.base_anchors[0, 2] - level.base_anchors[0, 0])
        low = 4 * side if index else 0.0
        high = 8 * side if index < len(levels) - 1 else np.inf
        reach = radius * side
        # the open interval of positive points, and the first and last index of a point in it
        start, end = np.maximum(boxes[:, :2], center - reach), np.minimum(boxes[:, 2:], center + reach)
        first = (np.floor(start / level.stride) + 1).clip(0, None)
        last = np.minimum(np.ceil(end / level.stride) - 1, level.grid - 1)
        inside = (first <= last).all(axis=1)
        nearest = np.rint(center / level.stride).clip(first, np.maximum(first, last))
        least, most = (
            np.maximum.reduce(
                [np.maximum(cell * level.stride - boxes[:, :2], boxes[:, 2:] - cell * level.stride) for cell in cells]
            )
            for cells in ([nearest], [first, last])
        )
        result |= inside & (least.max(axis=1) < high) & (most.max(axis=1) > low)
    return result


def _describe(objects: Annotations, index: int, iou: float | None) -> str:
    width, height = objects.boxes[index, 2:].tolist()
    image = int(objects.image_indices()[index])
    label = objects.classes[int(objects.labels[index]) - 1]
    quality = "has no point" if iou is None else f"has an anchor of IoU {iou:.2f} at best"
    return f"{objects.file_names[image]}: '{label}' of {width:.4g} x {height:.4g} px {quality}"
