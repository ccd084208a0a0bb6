"""``split_dataset``: divides a data set that has one split into lists of images for training and evaluation."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drfpn.data.annotations import Annotations
from drfpn.data.formats.layouts import find_layout
from drfpn.data.formats.listed_layout import NAMES, ListedLayout, list_folder, require_listable, source_split
from drfpn.data.progress import ProgressFactory, no_progress
from drfpn.data.stratification import ImageGroup, stratify
from drfpn.data.validation.duplicates import Fingerprint, group_similar_images
from drfpn.data.validation.image_files import check_images
from drfpn.data.validation.issues import LenientIssueHandler
from drfpn.utils.errors import UsageError, UserError
from drfpn.utils.io import write_atomically


@dataclass(frozen=True)
class SplitResult:
    """Lists that were written, and what they hold."""

    files: dict[str, Path]
    """List of file names by split."""
    splits: dict[str, Annotations]
    """Images and objects by split."""
    similar_groups: int
    """Number of groups of two or more images that look alike; each is in one split."""
    similar_images: int
    """Number of images in these groups."""
    undecodable: int
    """Number of images that cannot be decoded, and were not compared with others."""


def split_dataset(
    data: str,
    val: float,
    test: float = 0.0,
    *,
    seed: int = 0,
    group_similar: bool = True,
    force: bool = False,
    images: str | None = None,
    progress_bar: ProgressFactory | None = None,
) -> SplitResult:
    """Divide the images of a data set into train, val and test, and write lists of their names.

    The lists are in ``splits/`` in the folder of the data set, or in ``NAME.splits/`` beside its file. Each has the
    path of one image a line, from the folder of the images. ``open_dataset`` and the commands find them there. What
    is divided is the only split of the data set, or ``train`` if there is no ``val``.

    Every class has nearly the same share in each split, see ``stratification.stratify``. Images that look alike (see
    ``duplicates``) stay together, so that the evaluation is independent. The same images and seed give the same lists.

    Args:
        data: as for ``open_dataset``.
        val: fraction of the images for validation.
        test: fraction of the images for ``test``; 0 for no such split.
        seed: seed of the choice.
        group_similar: keep images together that look alike; this decodes all images.
        force: replace existing lists.
        images: folder of the images, as for ``open_dataset``.
        progress_bar: called with the title of each stage; yields the callback for its progress.

    Raises:
        UsageError: ``val`` or ``test`` is not a fraction, or they leave nothing to train on.
        UserError: there is no such data set, it is split already, or it has too few images.
    """
    fractions = _check_fractions(val, test)
    progress_bar = progress_bar or no_progress
    annotations, folder = _read(data, images, force, progress_bar, has_test=test > 0)
    fingerprints: list[Fingerprint | None] = [None] * len(annotations)
    if group_similar:
        with progress_bar("comparing images") as progress:
            for index, image in enumerate(check_images(annotations)):
                fingerprints[index] = image.fingerprint
                progress(index + 1, len(annotations))
    members = group_similar_images(fingerprints)
    if len(members) < len(fractions):
        raise UserError(
            f"{data} has {len(annotations)} images in {len(members)} groups that look alike, expected at least "
            f"{len(fractions)} groups for as many splits"
            + (" (`group_similar=False` divides them regardless)." if len(annotations) >= len(fractions) else ".")
        )
    with progress_bar("dividing images"):
        parts = stratify(_make_groups(annotations, members), fractions, seed)
    return SplitResult(
        _write_lists(folder, {name: annotations.file_names[indices].tolist() for name, indices in parts.items()}),
        {name: annotations.select_images(np.array(indices, dtype=np.int64)) for name, indices in parts.items()},
        sum(len(group) > 1 for group in members),
        sum(len(group) for group in members if len(group) > 1),
        sum(fingerprint is None for fingerprint in fingerprints) if group_similar else 0,
    )


def _check_fractions(val: float, test: float) -> dict[str, float]:
    for name, value, lowest in (("val", val, "above 0"), ("test", test, "0 or more")):
        if not (0 < value < 1 or (value == 0 and name == "test")):
            raise UsageError(f"`{name}` is {value:g}, expected a fraction of the images, {lowest} and below 1.")
    if val + test >= 1:
        raise UsageError(f"`val` and `test` are {val:g} and {test:g}, expected a sum below 1: the rest is trained on.")
    fractions = {"train": 1 - val - test, "val": val}
    return fractions | {"test": test} if test else fractions


def _read(
    data: str, images: str | None, force: bool, progress_bar: ProgressFactory, *, has_test: bool
) -> tuple[Annotations, Path]:
    """Return the images to divide, and the folder for the lists."""
    if data == "shapes":
        raise UserError("shapes has train, val and test already, expected the path of a data set with one split.")
    layout = find_layout(data, images)
    if isinstance(layout, ListedLayout):
        layout = layout.base
    source, folder = source_split(layout), list_folder(layout)
    if source is None:
        existing = ", ".join(layout.splits)
        raise UserError(f"{data} is split already ({existing}), expected one split, or train without val.")
    if has_test and source != "test" and "test" in layout.splits:
        raise UserError(f"{data} has a split 'test' of its own, expected `test=0`: a list would hide it.")
    existing = ", ".join(str(folder / f"{name}.txt") for name in NAMES if (folder / f"{name}.txt").exists())
    if existing and not force:
        raise UserError(f"{data} is split already by lists ({existing}); `force=True` replaces them.")
    with progress_bar(f"reading {source}") as progress:
        annotations = layout.read(source, LenientIssueHandler(), progress, segmentations=False)
    if annotations is None:
        raise UserError(f"{data}: nothing in the split '{source}' can be used; 'drfpn data check' says why.")
    require_listable(annotations)
    return annotations, folder


def _make_groups(annotations: Annotations, members: list[list[int]]) -> list[ImageGroup]:
    names = annotations.file_names.tolist()
    classes = [_classes_of(annotations, index) for index in range(len(annotations))]
    return [
        ImageGroup(
            tuple(group),
            min(names[index] for index in group),
            Counter(label for index in group for label in classes[index].tolist()),
        )
        for group in members
    ]


def _classes_of(annotations: Annotations, index: int) -> NDArray[np.int64]:
    """Return the labels that occur in an image, without crowds; 0 if none does."""
    objects = annotations.object_slice(index)
    labels = annotations.labels[objects][~annotations.crowd[objects]]
    return np.unique(labels) if len(labels) else np.zeros(1, dtype=np.int64)


def _write_lists(folder: Path, names: Mapping[str, list[str]]) -> dict[str, Path]:
    """Write one list for each split, and remove those of former splits."""
    files = {}
    try:
        folder.mkdir(exist_ok=True)
        for split, lines in names.items():
            files[split] = folder / f"{split}.txt"
            write_atomically(files[split], "".join(f"{line}\n" for line in lines).encode())
        for split in set(NAMES) - names.keys():
            (folder / f"{split}.txt").unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}), expected a folder for the lists.") from error
    return files
