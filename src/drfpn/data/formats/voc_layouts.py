"""Folder layouts of data sets in Pascal VOC's format."""

from dataclasses import dataclass
from pathlib import Path

from drfpn.data.annotations import Annotations
from drfpn.data.formats.base_layout import Layout
from drfpn.data.formats.voc import parse_voc
from drfpn.data.formats.voc_files import VocSource, list_folder, voc_sources
from drfpn.data.progress import ProgressCallback
from drfpn.data.validation.issues import IssueHandler


@dataclass(frozen=True)
class VocLayout(Layout):
    """VOC's layout, JPEGImages/, Annotations/*.xml and ImageSets/Main/{split}.txt, or labelImg's without lists."""

    sources: dict[str, VocSource]
    """What each split is read from."""

    def image_folders(self, split: str) -> tuple[Path, ...]:
        """Return the folder of images, which lists of splits share."""
        return (self.sources[split].folders.images,)

    def label_files(self, split: str) -> tuple[Path, ...]:
        """Return the XML files in the folder of a split, which lists of splits share."""
        return tuple(self.sources[split].folders.annotation_index.paths())

    def parse(
        self,
        split: str,
        on_issue: IssueHandler,
        progress: ProgressCallback | None = None,
        *,
        segmentations: bool = True,
    ) -> Annotations | None:
        """Read the valid records of a split."""
        return parse_voc(self.root, self.sources, split, on_issue, progress)


def find_voc_layout(root: Path) -> Layout | None:
    """Return the layout of a folder in VOC's format with lists of its splits; ``None`` if it is none."""
    return _layout(root) if list_folder(root) is not None else None


def find_unlisted_voc_layout(root: Path) -> Layout | None:
    """Return the layout of a folder in VOC's format without lists, as labelImg writes it; ``None`` if it is none."""
    if list_folder(root) is not None:
        return None
    layout = _layout(root)
    return layout if layout.splits else None


def _layout(root: Path) -> VocLayout:
    sources = voc_sources(root)
    return VocLayout(root, tuple(sources), sources)
