"""Recognising how a folder arranges its data set."""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from drfpn.data.annotations import Annotations
from drfpn.data.coco import parse_coco
from drfpn.data.problems import Report
from drfpn.data.voc import parse_voc, voc_splits
from drfpn.errors import UserError, nearest

# Files that lie beside COCO's instances and hold something else.
_OTHER_COCO = re.compile(r"(instances|captions|person_keypoints|panoptic|stuff|image_info)_")


@dataclass(frozen=True)
class Layout(ABC):
    """A folder with a data set in a layout that was recognised."""

    root: Path
    splits: tuple[str, ...]

    @abstractmethod
    def parse(self, split: str, report: Report) -> Annotations | None:
        """Read the sound part of a split that exists and report the rest."""

    def read(self, split: str, report: Report) -> Annotations | None:
        """Read the sound part of a split and report the rest; ``None`` if nothing is sound.

        Raises:
            UserError: There is no such split.
        """
        if split not in self.splits:
            there = ", ".join(self.splits) or "none"
            raise UserError(
                f"{self.root} has no split '{split}', expected one that is there: {there}."
                + nearest(split, self.splits)
            )
        return self.parse(split, report)


class CocoLayout(Layout):
    """annotations/instances_{split}2017.json + {split}2017/, as COCO itself is laid out."""

    def parse(self, split: str, report: Report) -> Annotations | None:
        """Read the sound part of a split."""
        return parse_coco(self.root / "annotations" / f"instances_{split}2017.json", self.root / f"{split}2017", report)


class PlainCocoLayout(Layout):
    """annotations/{split}.json + images/ or images/{split}/."""

    def parse(self, split: str, report: Report) -> Annotations | None:
        """Read the sound part of a split."""
        images = self.root / "images"
        own = images / split
        return parse_coco(self.root / "annotations" / f"{split}.json", own if own.is_dir() else images, report)


class VocLayout(Layout):
    """JPEGImages/, Annotations/*.xml and ImageSets/Main/{split}.txt."""

    def parse(self, split: str, report: Report) -> Annotations | None:
        """Read the sound part of a split."""
        return parse_voc(self.root, split, report)


def find_layout(data: str) -> Layout:
    """Recognise the layout of a folder: COCO's own, plain COCO, or VOC's, in this order.

    Raises:
        UserError: There is no such folder, or it has none of these layouts.
    """
    root = Path(data)
    if root.suffix.lower() in (".yaml", ".yml"):
        raise UserError(
            f"{data} is a YAML file and YOLO data sets are not read yet, expected 'shapes' or a folder in "
            "COCO or VOC layout."
        )
    if not root.is_dir():
        what = "is a file" if root.is_file() else "does not exist"
        siblings = [path.name for path in root.parent.iterdir()] if root.parent.is_dir() else []
        hint = nearest(root.name, [*siblings, "shapes"]) if what == "does not exist" else ""
        raise UserError(f"{data} {what}, expected 'shapes' or a folder in COCO or VOC layout.{hint}")
    annotations = root / "annotations"
    instances = [path.stem for path in sorted(annotations.glob("instances_*2017.json"))]
    if instances:
        return CocoLayout(root, tuple(name[len("instances_") : -len("2017")] for name in instances))
    plain = [path.stem for path in sorted(annotations.glob("*.json")) if not _OTHER_COCO.match(path.name)]
    if plain:
        return PlainCocoLayout(root, tuple(plain))
    if (root / "ImageSets" / "Main").is_dir():
        return VocLayout(root, voc_splits(root))
    raise UserError(
        f"{data} is neither in COCO nor in VOC layout, expected annotations/instances_train2017.json, "
        "annotations/train.json or ImageSets/Main/train.txt in it."
    )
