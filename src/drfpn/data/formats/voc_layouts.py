"""Folder layouts of data sets in Pascal VOC's format."""

from pathlib import Path

from drfpn.data.annotations import Annotations
from drfpn.data.formats.base_layout import Layout
from drfpn.data.formats.voc import parse_voc, voc_splits
from drfpn.data.progress import ProgressCallback
from drfpn.data.validation.issues import IssueHandler


class VocLayout(Layout):
    """VOC's layout: JPEGImages/, Annotations/*.xml and ImageSets/Main/{split}.txt."""

    def image_folders(self, split: str) -> tuple[Path, ...]:
        """Return JPEGImages/, which all splits share."""
        return (self.root / "JPEGImages",)

    def label_files(self, split: str) -> tuple[Path, ...]:
        """Return the XML files of all splits."""
        return tuple(sorted((self.root / "Annotations").rglob("*.xml")))

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


def find_voc_layout(root: Path) -> Layout | None:
    """Return the layout of a folder in VOC's format; ``None`` if it is none."""
    return VocLayout(root, voc_splits(root)) if (root / "ImageSets" / "Main").is_dir() else None
