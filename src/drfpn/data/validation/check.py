"""Finding every fault of a data set before a training run does."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np

from drfpn.data.annotations import Annotations
from drfpn.data.formats.layouts import Layout, find_layout
from drfpn.data.synthetic.shapes import LENGTHS
from drfpn.data.validation.boxes import box_problems, convention_problem
from drfpn.data.validation.duplicates import Fingerprint, Picture, copy_problems
from drfpn.data.validation.image_files import FileReport, inspect_file
from drfpn.data.validation.masks import mask_problems
from drfpn.data.validation.problems import Problem, Progress

Severity = Literal["error", "warning"]

EXAMPLES = 5

MEANINGS: dict[str, tuple[Severity, str]] = {
    "annotations-missing": ("error", "An annotation file is not where the layout of the folder has it."),
    "not-coco": ("error", "A file of annotations is not in COCO's instances format."),
    "not-voc": ("error", "An annotation of the VOC folder is not XML."),
    "bad-record": ("error", "A record lacks a value or has one of the wrong type."),
    "no-images": ("error", "A split has no images."),
    "no-categories": ("error", "There are no classes."),
    "classes-differ": ("error", "The splits do not have the same classes, so their labels disagree."),
    "duplicate-category-id": ("error", "Two classes share an id."),
    "duplicate-image-id": ("error", "Two images share an id, so their annotations cannot be told apart."),
    "duplicate-annotation-id": ("error", "Two annotations share an id, which confuses COCO's evaluation."),
    "unknown-image": ("error", "An annotation belongs to an image that is not in the file."),
    "unknown-category": ("error", "An annotation has a class that is not in the file."),
    "image-missing": ("error", "An annotated image is not on disk; training stops when it reaches it."),
    "image-undecodable": ("error", "An image is damaged; training stops when it reaches it."),
    "image-size": ("error", "An image is not of the annotated size, so its boxes may lie wrongly."),
    "box-nan": ("error", "A box holds NaN or infinity and would make the loss so."),
    "box-without-area": ("error", "A box has no positive width and height; losses of it are not finite."),
    "box-outside": ("error", "A box lies wholly outside its image."),
    "box-reaches-out": ("error", "A box leaves its image by more than 1 px."),
    "box-convention": ("error", "The boxes look as if they were not x, y, width, height in pixels."),
    "mask-polygon": ("error", "A polygon is not three points or more with finite coordinates."),
    "mask-rle": ("error", "A run-length encoded mask does not fit its image or cannot be decoded."),
    "mask-outside": ("error", "A segmentation lies wholly outside its image."),
    "mask-missing": ("warning", "An object has no segmentation though others have: training with masks stops at it."),
    "mask-empty": ("warning", "A segmentation covers no pixel: training with masks takes it for an empty one."),
    "repeated-line": ("warning", "A line of a YOLO label file is there twice: the second one is left out."),
    "tiny-box": ("warning", "A box is at most 1 px wide or high: often a slip of the mouse."),
    "exif-rotated": ("warning", "An image is stored turned; tools that ignore EXIF misplace its boxes."),
    "class-without-objects": ("warning", "A class has no object in a split: nothing to learn or to judge."),
    "image-without-objects": ("warning", "An image has no object: it is used as an example of background."),
    "image-in-two-splits": ("warning", "An image is in two splits, so the evaluation is not independent."),
    "duplicate-image": ("warning", "An image is in a split twice: it counts double, perhaps with other objects."),
    "similar-image": ("warning", "Two images look alike, as if one were a copy that was resized or saved anew."),
}  # fmt: skip
"""Severity and meaning of each kind of fault; ``error`` means that training would stop or go wrong."""


@dataclass(frozen=True)
class Finding:
    """All faults of one kind in a data set."""

    kind: str
    """A key of ``MEANINGS``, or what a layer above adds, such as ``object-unmatched``."""
    severity: Severity
    count: int
    examples: tuple[str, ...]
    """Up to five: file or annotation, and what was found."""
    meaning: str


class Findings:
    """Collects problems by kind; the same problem is counted once."""

    def __init__(self) -> None:
        self._examples: dict[str, dict[str, None]] = {kind: {} for kind in MEANINGS}

    def report(self, problem: Problem) -> None:
        """Add a problem."""
        self._examples[problem.kind][problem.example] = None

    def collect(self) -> list[Finding]:
        """Return one finding for each kind that occurred, errors first."""
        return [
            Finding(kind, severity, len(examples), tuple(examples)[:EXAMPLES], meaning)
            for wanted in ("error", "warning")
            for kind, (severity, meaning) in MEANINGS.items()
            if severity == wanted and (examples := self._examples[kind])
        ]


def check_dataset(data: str, splits: Sequence[str] | None = None, progress: Progress | None = None) -> list[Finding]:
    """Look at every annotation and decode every image of a data set, and return all that is wrong.

    Args:
        data: As for ``open_dataset``.
        splits: Those to check; of ``train``, ``val`` and ``test`` those that are there unless told. ``train`` must
            be, and one of the others.
        progress: Is called with the number of images decoded so far, and of all.

    Raises:
        UserError: There is no such folder, or it has no layout that is known.
    """
    if data == "shapes":
        return []  # drawn, not stored
    layout = find_layout(data)
    findings = Findings()
    parsed: dict[str, Annotations] = {}
    for split in splits or _splits_to_check(layout):
        annotations = _parse(layout, split, findings)
        if annotations is not None:
            parsed[split] = annotations
    prints: list[Fingerprint | None] = []
    total, done = sum(map(len, parsed.values())), 0
    for split, annotations in parsed.items():
        sizes = []
        for file in _decode(annotations):
            if file.problem is not None:
                findings.report(file.problem)
            sizes.append(file.size)
            prints.append(file.fingerprint)
            done += 1
            if progress is not None:
                progress(done, total)
        unknown = (annotations.sizes <= 0).any(axis=1, keepdims=True)
        known = np.where(unknown, np.array(sizes, dtype=np.int64).reshape(-1, 2), annotations.sizes)
        for problem in _object_problems(split, replace(annotations, sizes=known)):
            findings.report(problem)
    for problem in _split_problems(parsed):
        findings.report(problem)
    pictures = [
        Picture(split, str(annotations.path(i)))
        for split, annotations in parsed.items()
        for i in range(len(annotations))
    ]
    for problem in copy_problems(pictures, prints):
        findings.report(problem)
    return findings.collect()


def _splits_to_check(layout: Layout) -> list[str]:
    """Return the splits that are there, and those that training needs though they are not."""
    needed = ["train"] if "test" in layout.splits else ["train", "val"]
    return [split for split in LENGTHS if split in layout.splits or split in needed]


def _parse(layout: Layout, split: str, findings: Findings) -> Annotations | None:
    if split in layout.splits:
        return layout.parse(split, findings.report)
    found = f"there is no split '{split}'"
    there = ", ".join(layout.splits) or "a split"
    findings.report(Problem("annotations-missing", str(layout.root), found, there))
    return None


def _decode(annotations: Annotations) -> Iterator[FileReport]:
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        yield from pool.map(lambda index: inspect_file(annotations, index), range(len(annotations)))


def _object_problems(split: str, annotations: Annotations) -> Iterator[Problem]:
    yield from box_problems(annotations)
    if (convention := convention_problem(annotations)) is not None:
        yield convention
    yield from mask_problems(annotations)
    source = annotations.source
    sides = annotations.boxes[:, 2:].min(axis=1, initial=np.inf)
    image_of = annotations.image_of_object()
    for index in np.flatnonzero((sides > 0) & (sides <= 1)).tolist():
        where = f"{annotations.source_of(image_of[index])}: annotation {annotations.annotation_ids[index]}"
        width, height = annotations.boxes[index, 2:].tolist()
        image = annotations.file_names[image_of[index]]
        found = f"its box in '{image}' is {width:g} x {height:g} px"
        yield Problem("tiny-box", where, found, "more than 1 px")
    counts = np.bincount(annotations.labels[~annotations.crowd], minlength=len(annotations.classes) + 1)[1:]
    for name, count in zip(annotations.classes, counts.tolist(), strict=True):
        if not count:
            found = f"class '{name}' has no object in {split}"
            yield Problem("class-without-objects", str(source), found, "an object of each class")
    for index in np.flatnonzero(np.diff(annotations.starts) == 0).tolist():
        where = str(annotations.source_of(index))
        found = f"image '{annotations.file_names[index]}' has no object"
        yield Problem("image-without-objects", where, found, "objects")


def _split_problems(parsed: dict[str, Annotations]) -> Iterator[Problem]:
    for (first, a), (second, b) in combinations(parsed.items(), 2):
        if a.classes != b.classes:
            odd = sorted(set(a.classes) ^ set(b.classes)) or ["the order of the ids"]
            found = f"the classes of {first} and {second} differ ({', '.join(odd[:5])})"
            yield Problem("classes-differ", str(b.source), found, "the same classes")
