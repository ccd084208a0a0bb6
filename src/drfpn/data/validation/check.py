"""``check_dataset``: finds all issues of a data set before training: annotations, images, duplicates, splits."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from drfpn.data.annotations import Annotations
from drfpn.data.formats.base_layout import Layout, split_hint
from drfpn.data.formats.layouts import find_layout
from drfpn.data.progress import ProgressCallback, ProgressFactory, no_progress
from drfpn.data.synthetic.shapes import LENGTHS
from drfpn.data.validation.boxes import BOX_KINDS, box_convention_issue, box_issues, find_invalid_boxes
from drfpn.data.validation.classes import class_issues
from drfpn.data.validation.crowds import crowd_issues
from drfpn.data.validation.duplicates import Fingerprint, ImageRef, duplicate_issues
from drfpn.data.validation.image_files import check_images
from drfpn.data.validation.issues import IMAGE_KINDS, RECORD_KINDS, Issue
from drfpn.data.validation.masks import MASK_KINDS, mask_issues
from drfpn.data.validation.other_formats import other_format_issue
from drfpn.data.validation.outlook import Conclusion, conclude
from drfpn.data.validation.unused_files import unused_files
from drfpn.utils.errors import UserError, message_of

Severity = Literal["error", "warning"]

MAX_EXAMPLES = 5

_DECODING = "reading images"

LEFT_OUT_KINDS = {"label-name-differs", "unlisted-image", "unused-image", "unused-label"}
"""Issues of files that no split uses."""

SKIPPABLE = RECORD_KINDS | IMAGE_KINDS | set(BOX_KINDS) | set(MASK_KINDS) | {"image-size"}
"""Errors that training goes on without with ``on_bad="skip"``."""

ISSUE_KINDS: dict[str, tuple[Severity, str]] = {
    "annotations-missing": ("error", "An annotation file is not where the layout of the folder has it."),
    "not-coco": ("error", "A file of annotations is not in COCO's instances format."),
    "not-voc": ("error", "An annotation of the VOC folder is not one of VOC."),
    "not-annotations": ("error", "A file of annotations is not in the format that its name or layout says."),
    "bad-record": ("error", "A record lacks a value or has one of the wrong type."),
    "no-images": ("error", "A split has no images."),
    "no-categories": ("error", "There are no classes."),
    "classes-differ": ("error", "The splits do not have the same classes, so their labels disagree."),
    "duplicate-category-id": ("error", "Two classes have the same id."),
    "duplicate-image-id": ("error", "Two images have the same id, so their annotations cannot be distinguished."),
    "duplicate-annotation-id": ("error", "Two annotations have the same id, which COCO's evaluation does not handle."),
    "unknown-image": ("error", "An annotation belongs to an image that is not in the file."),
    "unknown-category": ("error", "An annotation has a class that is not in the file."),
    "image-ambiguous": ("error", "It is not clear which image is meant: several fit, or two annotation files fit one."),
    "shared-image-file": ("error", "One file is two images, so that each lacks the objects of the other."),
    "no-objects": ("error", "The training split has no object that is not a crowd: there is nothing to learn."),
    "class-only-crowd": ("error", "All objects of a class are crowds or difficult: it is not learned nor evaluated."),
    "image-missing": ("error", "An annotated image is not on disk; training stops when it reaches it."),
    "image-undecodable": ("error", "An image is damaged; training stops when it reaches it."),
    "split-missing": ("error", "There is no split to train on, or none to evaluate on."),
    "label-name-differs": ("error", "An annotation file is not named or placed as its image, so it is not used."),
    "listed-image-missing": ("error", "A list of a split names an image that the data set does not have."),
    "labels-ambiguous": ("error", "YOLO's lines may be polygons or boxes with keypoints; the YAML file should say."),
    "not-labelme": ("error", "An annotation of LabelMe is not JSON."),
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
    "split-unreadable": ("warning", "A split that training does not need cannot be read."),
    "unused-image": ("warning", "An image in the folders of the data set is in no split: it is not used."),
    "unused-label": ("warning", "An annotation file belongs to no image of a split: it is not used."),
    "unlisted-image": ("warning", "An image is in none of the lists of splits: it is not used."),
    "several-pages": ("warning", "An image file has several pages or frames, of which only the first is used."),
    "dark-16-bit": ("warning", "A 16-bit image has small values only and is nearly black: its camera has fewer bits."),
    "image-renamed": ("warning", "Names of images are written otherwise than on disk; the files are found."),
    "left-out-images": ("warning", "Images of a file of annotations are left out."),
    "left-out-shapes": ("warning", "Shapes that are no objects with a box are left out."),
    "same-class-name": ("warning", "Categories with one name are read as one class."),
    "empty-class-name": ("warning", "The name of a class is empty or has spaces only."),
    "similar-class-name": ("warning", "Names of classes differ in letter case or spaces only: often one class."),
    "unnamed-classes": ("warning", "Classes have numbers only, which become their names."),
    "classes-matched": ("warning", "The splits have other ids or another order of classes: they are matched by name."),
    "split-without-objects": ("warning", "A split has no object that is not a crowd: it has no AP."),
    "single-object-crowd": ("warning", "Crowds look like single objects (CVAT's brush): `crowd='object'` uses them."),
    "implausible-area": ("warning", "Areas cannot be those of the objects; those of the masks or boxes are used."),
    "rotated-box": ("warning", "CVAT's boxes are rotated, which COCO's format cannot say: they are misplaced."),
    "other-format": ("warning", "Images are also annotated in another format, differently: those files are not read."),
    "box-differs": ("warning", "Boxes contradict the masks of their objects: they are elsewhere or not x, y, w, h."),
    "repeated-object": ("warning", "Objects are annotated twice, with the same box and class."),
    "two-classes": ("warning", "Objects of two classes have the very same box: often one object with two labels."),
    "image-name-differs": ("warning", "A file states another image than the one of its own name, which is used."),
    "shapes-far-apart": ("warning", "Rectangles of LabelMe with the same group are one object but do not overlap."),
    "shape-without-area": ("warning", "A point or line of LabelMe has no box: it is left out."),
    "repeated-line": ("warning", "A line of a YOLO label file is repeated: the second one is left out."),
    "tiny-box": ("warning", "A box is at most 1 px wide or high: often a mistake in annotating."),
    "exif-rotated": ("warning", "An image is stored rotated; tools that ignore EXIF misplace its boxes."),
    "class-without-objects": ("warning", "A class has no object in a split: nothing to learn or to evaluate."),
    "objects-missing": ("warning", "Images have no list of objects, not even an empty one: they are background."),
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
        self.left_out: set[str] = set()
        """Files with an issue of ``LEFT_OUT_KINDS``."""

    def add(self, issue: Issue) -> None:
        """Add an issue."""
        if issue.kind in LEFT_OUT_KINDS:
            self.left_out.add(issue.location)
        self._examples[issue.kind][issue.summary] = None

    def summaries(self) -> list[IssueSummary]:
        """Return one summary for each kind that occurred, errors first."""
        return [
            IssueSummary(kind, severity, len(examples), tuple(examples)[:MAX_EXAMPLES], meaning)
            for current in ("error", "warning")
            for kind, (severity, meaning) in ISSUE_KINDS.items()
            if severity == current and (examples := self._examples[kind])
        ]


@dataclass(frozen=True)
class DatasetReport:
    """Result of ``inspect_dataset``."""

    issues: list[IssueSummary]
    """One summary for each kind of issue, errors first."""
    conclusion: Conclusion
    annotations: dict[str, Annotations]
    """Of each split that can be read."""
    flagged: dict[str, set[int]]
    """Indices of the images that have an issue, by split."""


def check_dataset(
    data: str,
    splits: Sequence[str] | None = None,
    progress: ProgressCallback | None = None,
    *,
    images: str | None = None,
) -> list[IssueSummary]:
    """Check every annotation and decode every image of a data set, and return all issues.

    Args:
        data: as for ``open_dataset``.
        splits: splits to check; ``None`` for those of ``train``, ``val`` and ``test`` that exist, of which ``train``
            and one of the others are required.
        progress: called with the number of images decoded so far and the total.
        images: folder of the images, as for ``open_dataset``.

    Raises:
        UserError: there is no such folder, or its layout is not recognized.
    """

    def progress_bar(title: str) -> AbstractContextManager[ProgressCallback]:
        return no_progress(title) if progress is None or title != _DECODING else nullcontext(progress)

    return inspect_dataset(data, splits, progress_bar, images=images).issues


def inspect_dataset(
    data: str,
    splits: Sequence[str] | None = None,
    progress_bar: ProgressFactory | None = None,
    *,
    images: str | None = None,
) -> DatasetReport:
    """Check a data set as ``check_dataset`` does, and conclude what a training on it would use.

    Args:
        data: as for ``open_dataset``.
        splits: splits to check; as of ``check_dataset``.
        progress_bar: called with the title of each stage; yields the callback for its progress.
        images: folder of the images, as for ``open_dataset``.

    Raises:
        UserError: there is no such folder, or its layout is not recognized.
    """
    if data == "shapes":  # generated, not stored
        text = "Training would use " + ", ".join(f"{length} images ({split})" for split, length in LENGTHS.items())
        return DatasetReport([], Conclusion(f"{text}.", {}, {}), {}, {})
    progress_bar = progress_bar or no_progress
    layout = find_layout(data, images)
    collector = IssueCollector()
    parsed: dict[str, Annotations | None] = {}
    for split in _splits_to_check(layout) if splits is None else splits:
        with progress_bar(f"reading {split}") as progress:
            parsed[split] = _parse(layout, split, collector, progress)
    if splits is None:
        _require_splits(data, layout, collector)
    readable = {split: annotations for split, annotations in parsed.items() if annotations is not None}
    with progress_bar(_DECODING) as progress:
        flagged = _check_contents(readable, collector, progress)
    with progress_bar("searching for unused files"):
        for issue in unused_files(layout, parsed, lambda split: _parse_quietly(layout, split)):
            if issue.location not in collector.left_out:
                collector.add(issue)
    issues = collector.summaries()
    return DatasetReport(issues, _conclude(data, readable, issues), readable, flagged)


def _splits_to_check(layout: Layout) -> list[str]:
    """Return train, val and test as far as they exist; all splits if none of them does."""
    return [split for split in LENGTHS if split in layout.splits] or list(layout.splits)


def _require_splits(data: str, layout: Layout, collector: IssueCollector) -> None:
    """Add an issue if there is no split to train on or none to evaluate on."""
    missing = [split for split in ("train", "val") if split not in layout.splits]
    if missing == ["val"] and "test" in layout.splits:
        return
    if missing:
        observed = f"there is no split {' and no split '.join(repr(split) for split in missing)}"
        existing = ", ".join(layout.splits) or "none"
        hint = split_hint(data, layout.splits).rstrip(".")
        hint = f";{hint}" if hint else ""
        collector.add(Issue("split-missing", str(layout.root), f"{observed}, only {existing}{hint}", "both"))


def _parse(layout: Layout, split: str, collector: IssueCollector, progress: ProgressCallback) -> Annotations | None:
    if split not in layout.splits:
        existing = ", ".join(layout.splits) or "a split"
        collector.add(Issue("split-missing", str(layout.root), f"there is no split '{split}'", existing))
        return None
    try:
        return layout.parse(split, collector.add, progress)
    except UserError as error:
        kind = "annotations-missing" if split in ("train", "val") or len(layout.splits) == 1 else "split-unreadable"
        collector.add(Issue(kind, str(layout.root), message_of(error).removeprefix(f"{layout.root}: ").rstrip("."), ""))
        return None


def _parse_quietly(layout: Layout, split: str) -> Annotations | None:
    """Read a split that is not checked; ``None`` if it cannot be read."""
    try:
        return layout.parse(split, lambda issue: None, segmentations=False)
    except UserError:
        return None


def _check_contents(
    splits: dict[str, Annotations], collector: IssueCollector, progress: ProgressCallback
) -> dict[str, set[int]]:
    """Decode all images, add the issues of images and objects, and return the indices of images that have one."""
    fingerprints: list[Fingerprint | None] = []
    total = sum(map(len, splits.values()))
    flagged: dict[str, set[int]] = {}
    for split, annotations in splits.items():
        sizes = []
        flagged[split] = set()
        for index, image in enumerate(check_images(annotations)):
            for issue in image.issues:
                collector.add(issue)
                flagged[split].add(index)
            sizes.append(image.size)
            fingerprints.append(image.fingerprint)
            progress(len(fingerprints), total)
        unknown = (annotations.sizes <= 0).any(axis=1, keepdims=True)
        known_sizes = np.where(unknown, np.array(sizes, dtype=np.int64).reshape(-1, 2), annotations.sizes)
        sized = replace(annotations, sizes=known_sizes)
        for issue in _object_issues(split, sized):
            collector.add(issue)
        invalid = np.logical_or.reduce(list(find_invalid_boxes(sized).values()))
        flagged[split] |= set(sized.image_indices()[invalid].tolist())
    for issue in class_issues(splits):
        collector.add(issue)
    images = [
        ImageRef(split, str(annotations.path(i)))
        for split, annotations in splits.items()
        for i in range(len(annotations))
    ]
    for issue in duplicate_issues(images, fingerprints):
        collector.add(issue)
    return flagged


def _conclude(data: str, splits: dict[str, Annotations], issues: list[IssueSummary]) -> Conclusion:
    errors = [issue for issue in issues if issue.severity == "error"]
    counts = {issue.kind: issue.count for issue in issues}
    first = next((issue for issue in errors if not issue.kind.startswith("mask-")), None)
    cure = None
    if errors and all(issue.kind in SKIPPABLE for issue in errors):
        cure = "`on_bad='skip'` goes on without such images and objects"
        if "box-reaches-out" in counts:
            cure += ", and `on_bad='fix'` clips boxes"
    return conclude(splits, counts, [issue.kind for issue in errors], first.examples[0] if first else None, cure)


def _object_issues(split: str, annotations: Annotations) -> Iterator[Issue]:
    yield from box_issues(annotations)
    if (other := other_format_issue(annotations)) is not None:
        yield other
    if (convention := box_convention_issue(annotations)) is not None:
        yield convention
    yield from mask_issues(annotations)
    yield from crowd_issues(split, annotations)
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
