"""Folder layouts of data sets in YOLO's format."""

from dataclasses import dataclass
from pathlib import Path

from drfpn.data.annotations import Annotations
from drfpn.data.class_matching import merge_same_names
from drfpn.data.formats.base_layout import Layout
from drfpn.data.formats.files import list_files
from drfpn.data.formats.yolo import parse_yolo
from drfpn.data.formats.yolo_files import find_labels, is_label_file, list_images
from drfpn.data.formats.yolo_folders import read_yolo_folder
from drfpn.data.formats.yolo_yaml import YoloConfig, read_yolo_config
from drfpn.data.progress import ProgressCallback
from drfpn.data.validation.issues import IssueHandler
from drfpn.utils.errors import UserError


@dataclass(frozen=True)
class YoloLayout(Layout):
    """YOLO's layout: a YAML file with the classes and the folders of images; labels are in folders beside them."""

    config: YoloConfig

    def image_folders(self, split: str) -> tuple[Path, ...]:
        """Return the folders of a split; those of a list of images hold others too, and are left out."""
        folders = [source for source in self.config.sources[split] if source.suffix.lower() != ".txt"]
        return tuple(folders)

    def label_files(self, split: str) -> tuple[Path, ...]:
        """Return the .txt files in the folders of labels of a split, and in those of its images."""
        try:
            _, images = list_images(self.config, split)
        except UserError:  # reading the split reports it
            return ()
        labels, _ = find_labels(self.config, images) if images else ([], [])
        lists = {source for sources in self.config.sources.values() for source in sources}
        folders = {file.parent for file in labels} | set(self.image_folders(split))
        tops = [folder for folder in folders if not any(parent in folders for parent in folder.parents)]
        return tuple(file for folder in sorted(tops) for file in list_files(folder, is_label_file) if file not in lists)

    def parse(
        self,
        split: str,
        on_issue: IssueHandler,
        progress: ProgressCallback | None = None,
        *,
        segmentations: bool = True,
    ) -> Annotations | None:
        """Read the valid records of a split; classes of one name are one class."""
        annotations = parse_yolo(self.config, split, on_issue, progress)
        return None if annotations is None else merge_same_names(annotations, on_issue)


def yolo_layout(file: Path) -> YoloLayout:
    """Return the layout of a data set by its YAML file.

    Raises:
        UserError: the file is invalid.
    """
    config = read_yolo_config(file)
    return YoloLayout(file, tuple(config.sources), config)


def find_yolo_layout(root: Path) -> Layout | None:
    """Return the layout of a folder in YOLO's format, with data.yaml in it; ``None`` if it is none."""
    return yolo_layout(root / "data.yaml") if (root / "data.yaml").is_file() else None


def find_yolo_folder_layout(root: Path) -> Layout | None:
    """Return the layout of a folder in YOLO's format without a YAML file; ``None`` if it is none.

    Raises:
        UserError: there are no names of classes, or several that differ.
    """
    config = read_yolo_folder(root)
    return None if config is None else YoloLayout(root, tuple(config.sources), config)
