"""The conclusion of a check: what would be trained on, what would not, and why."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from drfpn.data.annotations import Annotations


@dataclass(frozen=True)
class SplitContents:
    """What a split holds."""

    images: int
    objects: int
    """Without crowds."""
    classes: int
    """Classes that have an object."""
    crowd: int
    """Crowds, which are not trained on."""


@dataclass(frozen=True)
class Conclusion:
    """What a training on a data set would do."""

    text: str
    """One line."""
    splits: Mapping[str, SplitContents]
    """By split, of those that can be read."""
    not_used: Mapping[str, int]
    """Number of files or objects by what they are: "images that no annotation or list names"."""


NOT_USED = {
    "unused-image": ("image without a record", "images without a record"),
    "unlisted-image": ("image that no list names", "images that no list names"),
    "unused-label": ("annotation file without an image", "annotation files without an image"),
    "label-name-differs": ("annotation file of another spelling", "annotation files of another spelling"),
    "shape-without-area": ("shape without an area", "shapes without an area"),
    "repeated-line": ("repeated line", "repeated lines"),
}
"""Kinds of issues whose subjects are not trained on, in singular and plural."""

_NAMES = {"train": "Training would use", "val": "validation", "test": "test"}


def contents_of(annotations: Annotations) -> SplitContents:
    """Return what a split holds.

    Args:
        annotations: of the split.
    """
    crowd = int(annotations.crowd.sum())
    classes = len(np.unique(annotations.labels[~annotations.crowd]))
    return SplitContents(len(annotations), len(annotations.boxes) - crowd, classes, crowd)


def conclude(
    splits: Mapping[str, Annotations],
    counts: Mapping[str, int],
    errors: Sequence[str],
    first_error: str | None,
    cure: str | None,
) -> Conclusion:
    """Return the conclusion of a check.

    Args:
        splits: the splits that can be read.
        counts: number of issues by kind.
        errors: kinds of issues that are errors.
        first_error: one issue of these, as a clause.
        cure: what makes training possible, as a clause.
    """
    contents = {split: contents_of(annotations) for split, annotations in splits.items()}
    numbers = Counter[tuple[str, str]]()
    for kind, nouns in NOT_USED.items():
        numbers[nouns] += counts.get(kind, 0)
    numbers["crowd object", "crowd objects"] += sum(split.crowd for split in contents.values())
    not_used = {count_of(count, *nouns).partition(" ")[2]: count for nouns, count in numbers.items() if count}
    if any(not kind.startswith("mask-") for kind in errors):
        text = f"Training would fail: {first_error}"
        text = f"{text.rstrip('.')}." + (f" {cure}." if cure else "")
    else:
        text = f"{_use(contents)}."
        if any(kind.startswith("mask-") and kind != "mask-empty" for kind in counts):
            text = f"{text} It would fail with masks."
    if not_used:
        text += f" Not used: {', '.join(f'{count:,} {name}' for name, count in not_used.items())}."
    return Conclusion(text, contents, not_used)


def count_of(count: int, one: str, many: str) -> str:
    """Return a number with its noun.

    Args:
        count: the number.
        one: singular.
        many: plural.
    """
    return f"{count:,} {one if count == 1 else many}"


def _use(contents: Mapping[str, SplitContents]) -> str:
    parts: list[str] = []
    for split, held in contents.items():
        text = f"{count_of(held.images, 'image', 'images')} with {count_of(held.objects, 'object', 'objects')}"
        if not parts:
            text += f" of {count_of(held.classes, 'class', 'classes')}"
        parts.append(f"{_NAMES.get(split, split)} {text}")
    return ", ".join(parts)
