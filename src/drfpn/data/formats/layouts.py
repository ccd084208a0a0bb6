"""Detection of the format and folder layout of a data set: COCO, VOC or YOLO."""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from drfpn.data.annotations import Annotations
from drfpn.data.formats.coco import parse_coco
from drfpn.data.formats.voc import parse_voc, voc_splits
from drfpn.data.formats.yolo import parse_yolo
from drfpn.data.formats.yolo_yaml import YoloConfig, is_yolo_yaml, read_yolo_config
from drfpn.data.progress import ProgressCallback
from drfpn.data.validation.issues import IssueHandler
from drfpn.utils.errors import UserError, did_you_mean

# Other annotation files of COCO in the same folder as the instances.
_OTHER_COCO = re.compile(r"(instances|captions|person_keypoints|panoptic|stuff|image_info)_")


@dataclass(frozen=True)
class Layout(ABC):
    """A data set in a known layout."""

    root: Path
    """The folder, or the YAML file."""
    splits: tuple[str, ...]

    @abstractmethod
    def parse(
        self,
        split: str,
        on_issue: IssueHandler,
        progress: ProgressCallback | None = None,
        *,
        segmentations: bool = True,
    ) -> Annotations | None:
        """Read the valid records of an existing split; arguments as of ``read``."""

    def read(
        self,
        split: str,
        on_issue: IssueHandler,
        progress: ProgressCallback | None = None,
        *,
        segmentations: bool = True,
    ) -> Annotations | None:
        """Read the valid records of a split and report the others; ``None`` if nothing is valid.

        Args:
            split: one of ``splits``.
            on_issue: called with each issue.
            progress: called with the amount read so far and the total: images if each is annotated in a file of its
                own, MiB for COCO.
            segmentations: keep the segmentations.

        Raises:
            UserError: there is no such split.
        """
        if split not in self.splits:
            existing = ", ".join(self.splits) or "none"
            raise UserError(
                f"{self.root} has no split '{split}', expected one that is there: {existing}."
                + did_you_mean(split, self.splits)
            )
        return self.parse(split, on_issue, progress, segmentations=segmentations)


class CocoLayout(Layout):
    """COCO's own layout: annotations/instances_{split}2017.json and {split}2017/."""

    def parse(
        self,
        split: str,
        on_issue: IssueHandler,
        progress: ProgressCallback | None = None,
        *,
        segmentations: bool = True,
    ) -> Annotations | None:
        """Read the valid records of a split."""
        annotations = self.root / "annotations"
        if split.startswith("test") and not (annotations / f"instances_{split}2017.json").is_file():
            # Without annotations; test and test-dev list images of the same folder.
            return parse_coco(annotations / f"image_info_{split}2017.json", self.root / "test2017", on_issue, progress)
        file = annotations / f"instances_{split}2017.json"
        return parse_coco(file, self.root / f"{split}2017", on_issue, progress, segmentations=segmentations)


class PlainCocoLayout(Layout):
    """Plain COCO layout: annotations/{split}.json and images/ or images/{split}/."""

    def parse(
        self,
        split: str,
        on_issue: IssueHandler,
        progress: ProgressCallback | None = None,
        *,
        segmentations: bool = True,
    ) -> Annotations | None:
        """Read the valid records of a split."""
        images = self.root / "images"
        if (images / split).is_dir():
            images = images / split
        file = self.root / "annotations" / f"{split}.json"
        return parse_coco(file, images, on_issue, progress, segmentations=segmentations)


class VocLayout(Layout):
    """VOC's layout: JPEGImages/, Annotations/*.xml and ImageSets/Main/{split}.txt."""

    def parse(
        self,
        split: str,
        on_issue: IssueHandler,
        progress: ProgressCallback | None = None,
        *,
        segmentations: bool = True,
    ) -> Annotations | None:
        """Read the valid records of a split."""
        return parse_voc(self.root, split, on_issue, progress)


@dataclass(frozen=True)
class YoloLayout(Layout):
    """YOLO's layout: a YAML file with the classes and the folders of images; labels are in folders beside them."""

    config: YoloConfig

    def parse(
        self,
        split: str,
        on_issue: IssueHandler,
        progress: ProgressCallback | None = None,
        *,
        segmentations: bool = True,
    ) -> Annotations | None:
        """Read the valid records of a split."""
        return parse_yolo(self.config, split, on_issue, progress)


EXPECTED = "'shapes', a folder in COCO or VOC layout, or the YAML file of a YOLO data set"


def find_layout(data: str) -> Layout:
    """Detect the layout of a folder, or a YOLO data set by its YAML file.

    A folder is tried as COCO's own layout, plain COCO, VOC's, and YOLO's (``data.yaml`` in it), in this order.

    Args:
        data: path of the folder or YAML file.

    Raises:
        UserError: there is no such file or folder, or it has none of these layouts, or the YAML file is invalid.
    """
    root = Path(data)
    if is_yolo_yaml(root) and not root.is_dir():
        return _yolo(root)
    if not root.is_dir():
        state = "is a file" if root.is_file() else "does not exist"
        siblings = [path.name for path in root.parent.iterdir()] if root.parent.is_dir() else []
        hint = did_you_mean(root.name, [*siblings, "shapes"]) if state == "does not exist" else ""
        raise UserError(f"{data} {state}, expected {EXPECTED}.{hint}")
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
