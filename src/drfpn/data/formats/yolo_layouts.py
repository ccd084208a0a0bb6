"""Folder layouts of data sets in YOLO's format."""

from dataclasses import dataclass
from pathlib import Path

from drfpn.data.annotations import Annotations
from drfpn.data.formats.base_layout import Layout
from drfpn.data.formats.yolo import parse_yolo
from drfpn.data.formats.yolo_yaml import YoloConfig, read_yolo_config
from drfpn.data.progress import ProgressCallback
from drfpn.data.validation.issues import IssueHandler


@dataclass(frozen=True)
class YoloLayout(Layout):
    """YOLO's layout: a YAML file with the classes and the folders of images; labels are in folders beside them."""

    config: YoloConfig

    def image_folders(self, split: str) -> tuple[Path, ...]:
        """Return the folders of a split; a list of files stands for the folders of its images."""
        folders = [source for source in self.config.sources[split] if source.suffix.lower() != ".txt"]
        return tuple(folders)

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
