"""Recognising how a folder arranges its data set."""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from drfpn.data.annotations import Annotations
from drfpn.data.formats.coco import parse_coco
from drfpn.data.formats.voc import parse_voc, voc_splits
from drfpn.data.formats.yolo import parse_yolo
from drfpn.data.formats.yolo_yaml import YoloConfig, is_yolo_yaml, read_yolo_config
from drfpn.data.validation.problems import Progress, Report
from drfpn.utils.errors import UserError, did_you_mean

# Files that lie beside COCO's instances and hold something else.
_OTHER_COCO = re.compile(r"(instances|captions|person_keypoints|panoptic|stuff|image_info)_")


@dataclass(frozen=True)
class Layout(ABC):
    """A data set in a layout that was recognised."""

    root: Path
    """Its folder, or its YAML file."""
    splits: tuple[str, ...]

    @abstractmethod
    def parse(
        self, split: str, report: Report, progress: Progress | None = None, *, segmentations: bool = True
    ) -> Annotations | None:
        """Read the sound part of a split that exists and report the rest; ``segmentations``: where they are kept."""

    def read(
        self, split: str, report: Report, progress: Progress | None = None, *, segmentations: bool = True
    ) -> Annotations | None:
        """Read the sound part of a split and report the rest; ``None`` if nothing is sound.

        Args:
            split: One of ``splits``.
            report: Receives what is wrong.
            progress: Is called with the number of images read so far, and of all, where each has a file of its own.

        Raises:
            UserError: There is no such split.
        """
        if split not in self.splits:
            there = ", ".join(self.splits) or "none"
            raise UserError(
                f"{self.root} has no split '{split}', expected one that is there: {there}."
                + did_you_mean(split, self.splits)
            )
        return self.parse(split, report, progress, segmentations=segmentations)


class CocoLayout(Layout):
    """annotations/instances_{split}2017.json + {split}2017/, as COCO itself is laid out."""

    def parse(
        self, split: str, report: Report, progress: Progress | None = None, *, segmentations: bool = True
    ) -> Annotations | None:
        """Read the sound part of a split."""
        annotations = self.root / "annotations"
        if split.startswith("test") and not (annotations / f"instances_{split}2017.json").is_file():
            # Without objects; test and test-dev are lists of images in the same folder.
            return parse_coco(annotations / f"image_info_{split}2017.json", self.root / "test2017", report, progress)
        file = annotations / f"instances_{split}2017.json"
        return parse_coco(file, self.root / f"{split}2017", report, progress, segmentations=segmentations)


class PlainCocoLayout(Layout):
    """annotations/{split}.json + images/ or images/{split}/."""

    def parse(
        self, split: str, report: Report, progress: Progress | None = None, *, segmentations: bool = True
    ) -> Annotations | None:
        """Read the sound part of a split."""
        images = self.root / "images"
        own = images / split
        file = self.root / "annotations" / f"{split}.json"
        images = own if own.is_dir() else images
        return parse_coco(file, images, report, progress, segmentations=segmentations)


class VocLayout(Layout):
    """JPEGImages/, Annotations/*.xml and ImageSets/Main/{split}.txt."""

    def parse(
        self, split: str, report: Report, progress: Progress | None = None, *, segmentations: bool = True
    ) -> Annotations | None:
        """Read the sound part of a split."""
        return parse_voc(self.root, split, report, progress)


@dataclass(frozen=True)
class YoloLayout(Layout):
    """A YAML file with the classes and the folders of images, beside which the labels lie."""

    config: YoloConfig

    def parse(
        self, split: str, report: Report, progress: Progress | None = None, *, segmentations: bool = True
    ) -> Annotations | None:
        """Read the sound part of a split."""
        return parse_yolo(self.config, split, report, progress)


EXPECTED = "'shapes', a folder in COCO or VOC layout, or the YAML file of a YOLO data set"


def find_layout(data: str) -> Layout:
    """Recognise a YOLO data set by its YAML file, or the layout of a folder.

    A folder is tried as COCO's own layout, plain COCO, VOC's, and YOLO's (``data.yaml`` in it), in this order.

    Raises:
        UserError: There is no such file or folder, or it has none of these layouts, or the YAML file is faulty.
    """
    root = Path(data)
    if is_yolo_yaml(root) and not root.is_dir():
        return _yolo(root)
    if not root.is_dir():
        what = "is a file" if root.is_file() else "does not exist"
        siblings = [path.name for path in root.parent.iterdir()] if root.parent.is_dir() else []
        hint = did_you_mean(root.name, [*siblings, "shapes"]) if what == "does not exist" else ""
        raise UserError(f"{data} {what}, expected {EXPECTED}.{hint}")
    annotations = root / "annotations"
    instances = [path.stem for path in sorted(annotations.glob("instances_*2017.json"))]
    tests = [
        path.stem[len("image_info_") : -len("2017")] for path in sorted(annotations.glob("image_info_test*2017.json"))
    ]
    splits = [name[len("instances_") : -len("2017")] for name in instances]
    splits += [split for split in tests if split not in splits]
    if splits:
        return CocoLayout(root, tuple(splits))
    plain = [path.stem for path in sorted(annotations.glob("*.json")) if not _OTHER_COCO.match(path.name)]
    if plain:
        return PlainCocoLayout(root, tuple(plain))
    if (root / "ImageSets" / "Main").is_dir():
        return VocLayout(root, voc_splits(root))
    if (root / "data.yaml").is_file():
        return _yolo(root / "data.yaml")
    others = [path.name for path in sorted(root.iterdir()) if is_yolo_yaml(path)]
    hint = f" Did you mean '{root / others[0]}'?" if others else ""
    raise UserError(
        f"{data} is neither in COCO nor in VOC nor in YOLO layout, expected annotations/instances_train2017.json, "
        f"annotations/train.json, ImageSets/Main/train.txt or data.yaml in it.{hint}"
    )


def _yolo(file: Path) -> YoloLayout:
    config = read_yolo_config(file)
    return YoloLayout(file, tuple(config.sources), config)
