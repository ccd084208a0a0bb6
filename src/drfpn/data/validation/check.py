"""``check_dataset``: finds all issues of a data set before training: annotations, images, duplicates, splits."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np

from drfpn.data.annotations import Annotations
from drfpn.data.formats.base_layout import Layout
from drfpn.data.formats.layouts import find_layout
from drfpn.data.progress import ProgressCallback
from drfpn.data.synthetic.shapes import LENGTHS
from drfpn.data.validation.boxes import box_convention_issue, box_issues
from drfpn.data.validation.duplicates import Fingerprint, ImageRef, duplicate_issues
from drfpn.data.validation.image_files import ImageCheck, check_image
from drfpn.data.validation.issues import Issue
from drfpn.data.validation.masks import mask_issues

Severity = Literal["error", "warning"]

MAX_EXAMPLES = 5

ISSUE_KINDS: dict[str, tuple[Severity, str]] = {
    "annotations-missing": ("error", "An annotation file is not where the layout of the folder has it."),
    "not-coco": ("error", "A file of annotations is not in COCO's instances format."),
    "not-voc": ("error", "An annotation of the VOC folder is not XML."),
    "bad-record": ("error", "A record lacks a value or has one of the wrong type."),
    "no-images": ("error", "A split has no images."),
    "no-categories": ("error", "There are no classes."),
    "classes-differ": ("error", "The splits do not have the same classes, so their labels disagree."),
    "duplicate-category-id": ("error", "Two classes have the same id."),
    "duplicate-image-id": ("error", "Two images have the same id, so their annotations cannot be distinguished."),
    "duplicate-annotation-id": ("error", "Two annotations have the same id, which COCO's evaluation does not handle."),
    "unknown-image": ("error", "An annotation belongs to an image that is not in the file."),
    "unknown-category": ("error", "An annotation has a class that is not in the file."),
    "image-missing": ("error", "An annotated image is not on disk; training stops when it reaches it."),
    "image-undecodable": ("error", "An image is damaged; training stops when it reaches it."),
    "image-size": ("error", "An image is not of the annotated size, so its boxes may be misplaced."),
    "box-nan": ("error", "A box holds NaN or infinity and would make the loss NaN."),
    "box-without-area": ("error", "A box has no positive width and height; losses of it are not finite."),
    "box-outside": ("error", "A box lies wholly outside its image."),
    "box-reaches-out": ("error", "A box leaves its image by more than 1 px."),
    "box-convention": ("error", "The boxes look as if they were not x, y, width, height in pixels."),
    "mask-polygon": ("error", "A polygon is not three points or more with finite coordinates."),
    "mask-rle": ("error", "A run-length encoded mask does not fit its image or cannot be decoded."),
    "mask-outside": ("error", "A segmentation lies wholly outside its image."),
    "mask-missing": ("warning", "An object has no segmentation though others have: training with masks stops at it."),
    "mask-empty": ("warning", "A segmentation covers no pixel: its mask in training is empty."),
    "repeated-line": ("warning", "A line of a YOLO label file is repeated: the second one is left out."),
    "tiny-box": ("warning", "A box is at most 1 px wide or high: often a mistake in annotating."),
    "exif-rotated": ("warning", "An image is stored rotated; tools that ignore EXIF misplace its boxes."),
    "class-without-objects": ("warning", "A class has no object in a split: nothing to learn or to evaluate."),
    "image-without-objects": ("warning", "An image has no object: it is used as background."),
    "image-in-two-splits": ("warning", "An image is in two splits, so the evaluation is not independent."),
    "duplicate-image": ("warning", "An image is in a split twice: it counts twice, perhaps with other objects."),
    "similar-image": ("warning", "Two images look alike, as if one were a resized or recompressed copy of the other."),
}  # fmt: skip
"""Severity and meaning of each kind of issue; ``error`` means that training would stop or go wrong."""


@dataclass(frozen=True)
class IssueSummary:
    """All issues of one kind in a data set."""

    kind: str
    """A key of ``ISSUE_KINDS``, or a kind that the command line adds, such as ``object-unmatched``."""
    severity: Severity
    count: int
    examples: tuple[str, ...]
    """Up to five: file or annotation, and what was observed."""
    meaning: str


class IssueCollector:
    """Collects issues by kind; the same issue is counted once."""

    def __init__(self) -> None:
        self._examples: dict[str, dict[str, None]] = {kind: {} for kind in ISSUE_KINDS}

    def add(self, issue: Issue) -> None:
        """Add an issue."""
        self._examples[issue.kind][issue.summary] = None

    def summaries(self) -> list[IssueSummary]:
        """Return one summary for each kind that occurred, errors first."""
        return [
            IssueSummary(kind, severity, len(examples), tuple(examples)[:MAX_EXAMPLES], meaning)
            for current in ("error", "warning")
            for kind, (severity, meaning) in ISSUE_KINDS.items()
            if severity == current and (examples := self._examples[kind])
        ]


def check_dataset(
    data: str, splits: Sequence[str] | None = None, progress: ProgressCallback | None = None
) -> list[IssueSummary]:
    """Check every annotation and decode every image of a data set, and return all issues.

    Args:
        data: as for ``open_dataset``.
        splits: splits to check; ``None`` for those of ``train``, ``val`` and ``test`` that exist, of which ``train``
            and one of the others are required.
        progress: called with the number of images decoded so far and the total.

    Raises:
        UserError: there is no such folder, or its layout is not recognized.
    """
    if data == "shapes":
        return []  # generated, not stored
    layout = find_layout(data)
    collector = IssueCollector()
    parsed: dict[str, Annotations] = {}
    for split in splits or _splits_to_check(layout):
        annotations = _parse(layout, split, collector)
        if annotations is not None:
            parsed[split] = annotations
    fingerprints: list[Fingerprint | None] = []
    total = sum(map(len, parsed.values()))
    for split, annotations in parsed.items():
        sizes = []
        for image in _check_images(annotations):
            if image.issue is not None:
                collector.add(image.issue)
            sizes.append(image.size)
            fingerprints.append(image.fingerprint)
            if progress is not None:
                progress(len(fingerprints), total)
        unknown = (annotations.sizes <= 0).any(axis=1, keepdims=True)
        known_sizes = np.where(unknown, np.array(sizes, dtype=np.int64).reshape(-1, 2), annotations.sizes)
        for issue in _object_issues(split, replace(annotations, sizes=known_sizes)):
            collector.add(issue)
    for issue in _split_issues(parsed):
        collector.add(issue)
    images = [
        ImageRef(split, str(annotations.path(i)))
        for split, annotations in parsed.items()
        for i in range(len(annotations))
    ]
    for issue in duplicate_issues(images, fingerprints):
        collector.add(issue)
    return collector.summaries()


def _splits_to_check(layout: Layout) -> list[str]:
    """Return the splits that exist, and those that training requires."""
    required = ["train"] if "test" in layout.splits else ["train", "val"]
    return [split for split in LENGTHS if split in layout.splits or split in required]


def _parse(layout: Layout, split: str, collector: IssueCollector) -> Annotations | None:
    if split in layout.splits:
        return layout.parse(split, collector.add)
    observed = f"there is no split '{split}'"
    existing = ", ".join(layout.splits) or "a split"
    collector.add(Issue("annotations-missing", str(layout.root), observed, existing))
    return None


def _check_images(annotations: Annotations) -> Iterator[ImageCheck]:
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        yield from pool.map(lambda index: check_image(annotations, index), range(len(annotations)))


def _object_issues(split: str, annotations: Annotations) -> Iterator[Issue]:
    yield from box_issues(annotations)
    if (convention := box_convention_issue(annotations)) is not None:
        yield convention
    yield from mask_issues(annotations)
    sides = annotations.boxes[:, 2:].min(axis=1, initial=np.inf)
    image_indices = annotations.image_indices()
    for index in np.flatnonzero((sides > 0) & (sides <= 1)).tolist():
        file = annotations.annotation_file(image_indices[index])
        width, height = annotations.boxes[index, 2:].tolist()
        name = annotations.file_names[image_indices[index]]
        observed = f"its box in '{name}' is {width:g} x {height:g} px"
        yield Issue("tiny-box", f"{file}: annotation {annotations.annotation_ids[index]}", observed, "more than 1 px")
    counts = np.bincount(annotations.labels[~annotations.crowd], minlength=len(annotations.classes) + 1)[1:]
    for name, count in zip(annotations.classes, counts.tolist(), strict=True):
        if not count:
            observed = f"class '{name}' has no object in {split}"
            yield Issue("class-without-objects", str(annotations.source), observed, "an object of each class")
    for index in np.flatnonzero(np.diff(annotations.starts) == 0).tolist():
        observed = f"image '{annotations.file_names[index]}' has no object"
        yield Issue("image-without-objects", str(annotations.annotation_file(index)), observed, "objects")


def _split_issues(parsed: dict[str, Annotations]) -> Iterator[Issue]:
    for (first, a), (second, b) in combinations(parsed.items(), 2):
        if a.classes != b.classes:
            differing = sorted(set(a.classes) ^ set(b.classes)) or ["the order of the ids"]
            observed = f"the classes of {first} and {second} differ ({', '.join(differing[:5])})"
            yield Issue("classes-differ", str(b.source), observed, "the same classes")
