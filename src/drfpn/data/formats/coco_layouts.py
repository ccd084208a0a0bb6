"""Folder layouts of data sets in COCO's format."""

import re
from pathlib import Path

from drfpn.data.annotations import Annotations
from drfpn.data.formats.base_layout import Layout
from drfpn.data.formats.coco import parse_coco
from drfpn.data.progress import ProgressCallback
from drfpn.data.validation.issues import IssueHandler

# Other annotation files of COCO in the same folder as the instances.
_OTHER_COCO = re.compile(r"(instances|captions|person_keypoints|panoptic|stuff|image_info)_")


class CocoLayout(Layout):
    """COCO's own layout: annotations/instances_{split}2017.json and {split}2017/."""

    def image_folders(self, split: str) -> tuple[Path, ...]:
        """Return the folder of the images of a split."""
        return (self.root / ("test2017" if split.startswith("test") else f"{split}2017"),)

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

    def image_folders(self, split: str) -> tuple[Path, ...]:
        """Return images/{split}/ if it exists, else images/."""
        images = self.root / "images"
        return (images / split if (images / split).is_dir() else images,)

    def parse(
        self,
        split: str,
        on_issue: IssueHandler,
        progress: ProgressCallback | None = None,
        *,
        segmentations: bool = True,
    ) -> Annotations | None:
        """Read the valid records of a split."""
        (images,) = self.image_folders(split)
        file = self.root / "annotations" / f"{split}.json"
        return parse_coco(file, images, on_issue, progress, segmentations=segmentations)


def find_coco_layout(root: Path) -> Layout | None:
    """Return the layout of a folder in COCO's format; ``None`` if it is none."""
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
    return PlainCocoLayout(root, tuple(plain)) if plain else None
