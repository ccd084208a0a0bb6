"""``DatasetWriter``: base class of the writers of all formats, and names of image files that are unique and safe."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from drfpn.data.annotations import Annotations
from drfpn.data.image_formats import COMMON_SUFFIXES, IMAGE_SUFFIXES, is_hidden
from drfpn.data.validation.boxes import clip_xywh
from drfpn.utils.errors import UserError

Splits = dict[str, Annotations]

MIN_REPORTED_SHIFT = 0.01
"""Pixels by which a side of a box must move to be reported: rounding by other tools causes less."""


class DatasetWriter(ABC):
    """Writes the annotations of a data set in one format, and determines the paths of its images.

    Args:
        folder: folder of the new data set; exists and is empty.
        splits: annotations by split, all with the same classes and with the size of every image. Boxes extend beyond
            their image by 1 px at most.
        masks: write the segmentations, if the format has them.
    """

    def __init__(self, folder: Path, splits: Splits, *, masks: bool) -> None:
        self.folder = folder
        self.splits = splits
        self.masks = masks
        self.classes = next(iter(splits.values())).classes
        self.changes: Counter[str] = Counter()
        """Number of objects or images that could not be written unchanged, by description of the change."""
        self._box_shifts: list[float] = []

    @abstractmethod
    def image_file(self, split: str, index: int) -> Path:
        """Return the path of an image, relative to the folder."""

    @abstractmethod
    def add(self, split: str, index: int) -> None:
        """Write the annotations of an image, or collect them for ``finish``. Called once for each image, in order."""

    @abstractmethod
    def finish(self) -> None:
        """Write the files that concern all images."""

    def lost(self) -> list[str]:
        """Return one line for each kind of information that could not be written unchanged."""
        lines = [f"{change}: {count}" for change, count in self.changes.items()]
        if self._box_shifts:
            lines.append(
                f"boxes that became those of their segmentations, up to {max(self._box_shifts):.2g} px apart "
                f"(`masks=False` keeps them): {len(self._box_shifts)}"
            )
        return lines

    def note_shift(self, box: NDArray[np.float64], corners: NDArray[np.float64]) -> None:
        """Note that a box will be read as another one.

        Args:
            box: (4,) x, y, width, height.
            corners: (2, 2) upper left and lower right corner of the other one.
        """
        shift = float(np.abs(corners - [box[:2], box[:2] + box[2:]]).max())
        if shift > MIN_REPORTED_SHIFT:
            self._box_shifts.append(shift)

    def lost_classes(self, names: Sequence[str], reader: str) -> list[str]:
        """Return lines about classes for a format that has no list of them.

        Args:
            names: the classes as written.
            reader: whose classes are those that objects have, in alphabetical order.
        """
        labels = {label for annotations in self.splits.values() for label in np.unique(annotations.labels).tolist()}
        unused = [name for label, name in enumerate(names, start=1) if label not in labels]
        lines = []
        if unused:
            some = ", ".join(unused[:5]) + (", ..." if len(unused) > 5 else "")
            lines.append(f"classes left out, since no object has them ({some}): {len(unused)}")
        used = [name for name in names if name not in unused]
        if used != sorted(used):
            lines.append(f"the order of the classes is lost: {reader} are read in alphabetical order")
        return lines

    def unique_names(self, split: str, used: set[str], *, by_stem: bool) -> list[PurePosixPath]:
        """Return a name for each image of a split, and count those that readers would take for hidden files.

        Args:
            split: the split.
            used: as of ``unique_name``.
            by_stem: as of ``unique_name``.
        """
        file_names = self.splits[split].file_names.tolist()
        hidden = sum(any(map(is_hidden, relative_name(name).parts)) for name in file_names)
        if hidden:
            self.changes["images renamed, since names of hidden files are not read"] += hidden
        return [unique_name(image_name(name), used, by_stem=by_stem) for name in file_names]

    def clipped_boxes(self, split: str, index: int) -> NDArray[np.float64]:
        """Return the boxes (N, 4) of an image, clipped to it, and count those that this changes."""
        annotations = self.splits[split]
        boxes = annotations.boxes[annotations.object_slice(index)]
        clipped = clip_xywh(boxes, np.broadcast_to(annotations.sizes[index], (len(boxes), 2)))
        changed = int((np.abs(clipped - boxes) > MIN_REPORTED_SHIFT).any(axis=1).sum())
        if changed:
            self.changes["boxes cut that reached out of their image by up to 1 px"] += changed
        return clipped


def relative_name(file_name: str) -> PurePosixPath:
    """Return the relative path of an image; only its last part if it leads out of the folder of images."""
    path = PurePosixPath(file_name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        return PurePosixPath(path.name)
    return path


def image_name(file_name: str) -> PurePosixPath:
    """Return ``relative_name`` for a format whose readers recognize images by their suffix; no part of it is hidden.

    Args:
        file_name: name in the original annotations.

    Raises:
        UserError: it has not the suffix of an image.
    """
    name = relative_name(file_name)
    if name.suffix.lower() not in IMAGE_SUFFIXES:
        raise UserError(
            f"The image '{file_name}' has the suffix '{name.suffix}', expected one by which other tools recognize "
            f"images ({', '.join(COMMON_SUFFIXES)})."
        )
    return PurePosixPath(*map(_visible, name.parts))


def _visible(part: str) -> str:
    return f"_{part}" if is_hidden(part) else part


def unique_name(name: PurePosixPath, used: set[str], *, by_stem: bool) -> PurePosixPath:
    """Return ``name``, or name_2, name_3, ... if it is used, and add it to the used ones.

    Args:
        name: preferred name.
        used: lower-case names used so far (some file systems ignore case); modified in place.
        by_stem: ignore the suffix, since the annotations of a.jpg and a.png would have the same name.
    """
    number, candidate = 1, name
    while (key := str(candidate.with_suffix("") if by_stem else candidate).lower()) in used:
        number += 1
        candidate = name.with_stem(f"{name.stem}_{number}")
    used.add(key)
    return candidate
