"""Checks of crowds: flags that look like those of single objects, and classes without other objects."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drfpn.data.annotations import Annotations
from drfpn.data.masks.rle import decode
from drfpn.data.validation.issues import Issue

MIN_COUNT = 3
"""Number of crowds from which there is an issue: of a rare class the only object may well be one."""
MIN_FRACTION = 0.03
"""Fraction of crowds among all objects from which they are looked at; COCO has 1.2 % of them."""
_MANY = 0.1
"""Fraction of crowds from which there is a warning without a look at them."""
_MAX_SAMPLED = 50
"""Crowds whose masks are decoded."""


def crowd_issues(split: str, annotations: Annotations) -> Iterator[Issue]:
    """Yield the issues of crowds in a split, and of a lack of other objects.

    Args:
        split: name of the split.
        annotations: of the split, with the sizes of images as far as they are known.
    """
    source = str(annotations.source)
    crowd, labels, total = annotations.crowd, annotations.labels, len(annotations.crowd)
    if not total or crowd.all():
        reason = f"all {total} objects in {split} are crowds or difficult" if total else f"{split} has no object"
        kind = "no-objects" if split == "train" else "split-without-objects"
        yield Issue(kind, source, reason, "objects")
    counts = np.bincount(labels, minlength=len(annotations.classes) + 1)[1:]
    crowds = np.bincount(labels[crowd], minlength=len(annotations.classes) + 1)[1:]
    for index in np.flatnonzero((counts >= MIN_COUNT) & (counts == crowds)).tolist():
        name = annotations.classes[index]
        observed = f"all {counts[index]} objects of class '{name}' in {split} are crowds or difficult"
        yield Issue("class-only-crowd", source, observed, "objects that are not crowds")
    count = int(crowd.sum())
    if count >= max(MIN_COUNT, MIN_FRACTION * total) and _are_single_objects(annotations):
        observed = f"{count} of {total} objects in {split} ({count / total:.0%}) are crowds, each a region in one piece"
        yield Issue("single-object-crowd", source, observed, "`iscrowd` 0 for single objects")


def crowd_warning(annotations: Annotations) -> str | None:
    """Return a sentence if many objects of a JSON file are crowds, which does not need their segmentations.

    Args:
        annotations: of a split.
    """
    count, total = int(annotations.crowd.sum()), len(annotations.crowd)
    if annotations.source.suffix != ".json" or count < max(MIN_COUNT, _MANY * total):
        return None
    return (
        f"{annotations.source}: {count} of {total} objects are crowds (`iscrowd`), which are neither trained on nor "
        "evaluated; if they are single objects, as CVAT's brush writes them, `crowd='object'` uses them."
    )


def count_components(mask: NDArray[np.uint8]) -> int:
    """Return the number of connected regions (8 neighbors) of a mask (H, W)."""
    parents: list[int] = []

    def find(run: int) -> int:
        while parents[run] != run:
            parents[run] = parents[parents[run]]
            run = parents[run]
        return run

    previous: list[tuple[int, int, int]] = []
    for row in mask.astype(np.int8):
        edges = np.flatnonzero(np.diff(row, prepend=0, append=0)).reshape(-1, 2).tolist()
        current = []
        for start, end in edges:
            run = len(parents)
            parents.append(run)
            for other_start, other_end, other in previous:
                if other_start <= end and start <= other_end:
                    parents[find(other)] = find(run)
            current.append((start, end, run))
        previous = current
    return len({find(run) for run in range(len(parents))})


def _are_single_objects(annotations: Annotations) -> bool:
    """Return whether most crowds are RLE in one piece."""
    indices = np.flatnonzero(annotations.crowd)
    if annotations.segmentations is None or not len(indices):
        return False
    indices = indices[np.linspace(0, len(indices) - 1, min(_MAX_SAMPLED, len(indices))).astype(np.int64)]
    image_indices = annotations.image_indices()
    masks = (
        _decoded(annotations.segmentations[index], *annotations.sizes[image_indices[index]].tolist())
        for index in indices.tolist()
    )
    return sum(mask is not None and count_components(mask) == 1 for mask in masks) > len(indices) / 2


def _decoded(segmentation: Any, height: int, width: int) -> NDArray[np.uint8] | None:
    if not isinstance(segmentation, dict) or segmentation.get("size") != [height, width]:
        return None
    try:
        return decode(segmentation, height, width)
    except (TypeError, ValueError):
        return None
