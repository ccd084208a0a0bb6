"""Folder layouts of data sets in LabelMe's format."""

import json
from dataclasses import dataclass
from pathlib import Path

from drfpn.data.annotations import Annotations
from drfpn.data.formats.base_layout import Layout
from drfpn.data.formats.folder_pairs import FolderPair, find_folder_pairs
from drfpn.data.formats.labelme import is_json_file, parse_labelme
from drfpn.data.progress import ProgressCallback
from drfpn.data.validation.issues import IssueHandler

ANNOTATION_FOLDERS = ("annotations", "annotation", "labels", "json", "jsons", "labelme")


@dataclass(frozen=True)
class LabelMeLayout(Layout):
    """LabelMe's layout: a JSON file for each image, in its folder or in another one."""

    sources: dict[str, FolderPair]
    """The folders of each split."""

    def image_folders(self, split: str) -> tuple[Path, ...]:
        """Return the folder of the images of a split."""
        return (self.sources[split].images,)

    def label_files(self, split: str) -> tuple[Path, ...]:
        """Return the JSON files of a split."""
        return tuple(self.sources[split].annotation_index.paths())

    def parse(
        self,
        split: str,
        on_issue: IssueHandler,
        progress: ProgressCallback | None = None,
        *,
        segmentations: bool = True,
    ) -> Annotations | None:
        """Read the valid records of a split."""
        return parse_labelme(self.sources, split, on_issue, progress, segmentations=segmentations)


def find_labelme_layout(root: Path) -> Layout | None:
    """Return the layout of a folder in LabelMe's format; ``None`` if it is none."""
    sources = find_folder_pairs(root, ANNOTATION_FOLDERS, is_json_file, _is_annotation)
    return LabelMeLayout(root, tuple(sources), sources) if sources else None


def _is_annotation(file: Path) -> bool:
    try:
        value = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(value, dict) and isinstance(value.get("shapes"), list) and "imagePath" in value
