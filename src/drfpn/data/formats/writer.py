"""What the writers of all formats share."""

from abc import ABC, abstractmethod
from collections import Counter
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from drfpn.data.annotations import Annotations
from drfpn.data.image_io import IMAGE_SUFFIXES
from drfpn.data.validation.boxes import clip_xywh
from drfpn.utils.errors import UserError

Splits = dict[str, Annotations]

TOLD_FROM = 0.01
"""Pixels that a side of a box may move before that is told: less is how others round."""


class Writer(ABC):
    """Writes the annotations of a data set in one format, and says where its images belong."""

    def __init__(self, folder: Path, splits: Splits, *, masks: bool) -> None:
        """Choose the names of all images.

        Args:
            folder: Of the new data set; exists and is empty.
            splits: With the same classes and with the size of every image. Boxes overhang by 1 px at most.
            masks: Whether segmentations are written, where the format has them.
        """
        self.folder = folder
        self.splits = splits
        self.masks = masks
        self.classes = next(iter(splits.values())).classes
        self.losses: Counter[str] = Counter()
        """How often something could not be written as it was, by what it was."""

    @abstractmethod
    def image_file(self, split: str, index: int) -> Path:
        """Return where an image belongs, relative to the folder."""

    @abstractmethod
    def add(self, split: str, index: int) -> None:
        """Write the annotations of an image, or take them for ``finish``. Is called once for each, in order."""

    @abstractmethod
    def finish(self) -> None:
        """Write what belongs to all images."""

    def lost(self) -> list[str]:
        """Return one line for each sort of thing that could not be written as it was."""
        return [f"{what}: {count}" for what, count in self.losses.items()]

    def boxes_inside(self, split: str, index: int) -> NDArray[np.float64]:
        """Return the boxes (N, 4) of an image, cut to it, and count those that this changes visibly."""
        annotations = self.splits[split]
        boxes = annotations.boxes[annotations.objects(index)]
        cut = clip_xywh(boxes, np.broadcast_to(annotations.sizes[index], (len(boxes), 2)))
        changed = int((np.abs(cut - boxes) > TOLD_FROM).any(axis=1).sum())
        if changed:
            self.losses["boxes cut that reached out of their image by up to 1 px"] += changed
        return cut


def relative_name(file_name: str) -> PurePosixPath:
    """Return the name of an image with its folders, but without what leads out of the folder of images."""
    path = PurePosixPath(file_name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        return PurePosixPath(path.name)
    return path


def image_name(file_name: str) -> PurePosixPath:
    """Return ``relative_name`` for a format whose readers know images in a folder by their suffix.

    Raises:
        UserError: It is not the suffix of an image.
    """
    name = relative_name(file_name)
    if name.suffix.lower() not in IMAGE_SUFFIXES:
        raise UserError(
            f"The image '{file_name}' has the suffix '{name.suffix}', expected one by which VOC and YOLO data sets "
            f"are known to hold images ({', '.join(IMAGE_SUFFIXES)})."
        )
    return name


def unique(name: PurePosixPath, taken: set[str], *, by_stem: bool) -> PurePosixPath:
    """Return ``name``, or name_2, name_3, ... if it is taken, and take it.

    Args:
        name: Wanted.
        taken: Lower-case names given away so far: some disks do not tell A from a. Is changed.
        by_stem: Whether the suffix does not count, since the annotation of a.jpg and a.png has one name.
    """
    number, choice = 1, name
    while (key := str(choice.with_suffix("") if by_stem else choice).lower()) in taken:
        number += 1
        choice = name.with_stem(f"{name.stem}_{number}")
    taken.add(key)
    return choice
