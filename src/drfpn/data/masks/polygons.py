"""From a mask to one polygon that draws exactly this mask."""

import numpy as np
from numpy.typing import NDArray

Loop = NDArray[np.float64]
"""(N, 2) x, y of the corners of a closed outline in pixels; the last corner is joined to the first."""


def trace(mask: NDArray[np.uint8]) -> list[Loop]:
    """Return the outlines of a mask (H, W) along the edges of its pixels.

    Pixel (row, column) reaches from (column, row) to (column + 1, row + 1). Outlines turn from x to y around what is
    inside (their signed area is positive), and the other way around holes.
    """
    ahead = _edges(mask)
    loops = []
    while ahead:
        start = next(iter(ahead))
        corner, step = start, ahead[start][0]
        corners: list[tuple[int, int]] = []
        while True:
            steps = ahead[corner]
            # Where two pixels touch by a corner, keep to the same pixel: turn towards the inside.
            turned = (-step[1], step[0])
            following = turned if turned in steps else steps[0]
            steps.remove(following)
            if not steps:
                del ahead[corner]
            if following != step or not corners:
                corners.append(corner)
            step = following
            corner = corner[0] + step[0], corner[1] + step[1]
            if corner == start and start not in ahead:
                break
        loops.append(_without_straight_start(np.array(corners, dtype=np.float64)))
    return loops


def join(loops: list[Loop]) -> Loop:
    """Return one polygon that goes around all loops, with a bridge there and back between any two of them.

    Bridges have no width, so they draw nothing under the even-odd rule, which COCO's drawing follows.
    """
    chain, *others = sorted(loops, key=lambda loop: -abs(signed_area(loop)))
    for loop in others:
        distances = ((chain[:, None] - loop[None]) ** 2).sum(axis=2)
        here, there = np.unravel_index(int(distances.argmin()), distances.shape)
        around = np.concatenate([loop[there:], loop[: there + 1]])
        chain = np.concatenate([chain[: here + 1], around, chain[here:]])
    return chain


def signed_area(loop: Loop) -> float:
    """Return the area by the shoelace formula, positive where the loop turns from x to y."""
    x, y = loop.T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def _edges(mask: NDArray[np.uint8]) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Return for each corner the steps to the next, with what is inside on the right (y points down)."""
    padded = np.pad(mask.astype(np.int8), 1)
    ahead: dict[tuple[int, int], list[tuple[int, int]]] = {}
    across, down = np.diff(padded, axis=0)[:, 1:-1], np.diff(padded, axis=1)[1:-1]
    for change, at, offset, step in (
        (across, 1, (0, 0), (1, 0)),  # above the inside: to the right
        (across, -1, (1, 0), (-1, 0)),  # below it: to the left
        (down, 1, (0, 1), (0, -1)),  # left of it: up
        (down, -1, (0, 0), (0, 1)),  # right of it: down
    ):
        rows, columns = np.nonzero(change == at)
        for x, y in zip((columns + offset[0]).tolist(), (rows + offset[1]).tolist(), strict=True):
            ahead.setdefault((x, y), []).append(step)
    return ahead


def _without_straight_start(loop: Loop) -> Loop:
    """Drop the corner that a loop was begun at if it lies on a straight line."""
    before, after = loop[0] - loop[-1], loop[1] - loop[0]
    return loop[1:] if before[0] * after[1] == before[1] * after[0] else loop
