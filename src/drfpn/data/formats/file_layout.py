"""``FileLayout``: a data set that is annotated in one file for each split."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from drfpn.data.annotations import Annotations
from drfpn.data.formats.base_layout import Layout
from drfpn.data.formats.image_names import choose_folder
from drfpn.data.progress import ProgressCallback
from drfpn.data.validation.issues import IssueHandler
from drfpn.utils.errors import UsageError


class Reader(Protocol):
    """Reader of one file of annotations."""

    def __call__(
        self,
        file: Path,
        image_root: Path,
        on_issue: IssueHandler,
        progress: ProgressCallback | None = None,
        /,
        *,
        segmentations: bool = True,
    ) -> Annotations | None:
        """Read the valid records and report the others; ``None`` if nothing is valid."""


@dataclass(frozen=True)
class SplitFile:
    """The file that annotates a split, and the folders in which its images may be."""

    annotations: Path
    folders: tuple[Path, ...]
    """Folders of images, the likeliest first: the one that holds images of the file is used, or else the first that
    exists."""
    fallback: Path
    """Folder of images if it holds those of the file and none of ``folders`` does, or if none of these exists."""
    read: Reader
    first_names: Callable[[Path], list[str]]
    """Returns some of the file names of images in the file."""


@dataclass(frozen=True)
class FileLayout(Layout):
    """A data set with one file of annotations for each split."""

    files: Mapping[str, SplitFile]
    """By split."""

    def image_folders(self, split: str) -> tuple[Path, ...]:
        """Return the folder that holds the images of a split."""
        file = self.files[split]
        existing = [folder for folder in file.folders if folder.is_dir()]
        chosen = choose_folder([*existing, file.fallback], file.first_names(file.annotations))
        return (chosen or (existing or [file.fallback])[0],)

    def parse(
        self,
        split: str,
        on_issue: IssueHandler,
        progress: ProgressCallback | None = None,
        *,
        segmentations: bool = True,
    ) -> Annotations | None:
        """Read the valid records of a split."""
        (folder,) = self.image_folders(split)
        file = self.files[split]
        return file.read(file.annotations, folder, on_issue, progress, segmentations=segmentations)

    def with_images(self, folder: Path) -> "FileLayout":
        """Return the layout with images in a folder by name, or in one for each split below it.

        Args:
            folder: folder of images.

        Raises:
            UsageError: there is no such folder.
        """
        if not folder.is_dir():
            state = "is a file" if folder.exists() else "does not exist"
            raise UsageError(f"`images` is '{folder}', which {state}, expected the folder of the images.")
        files = {}
        for split, file in self.files.items():
            names = dict.fromkeys([split, *(known.name for known in file.folders)])
            below = [folder / name for name in names if name and (folder / name).is_dir()]
            files[split] = replace(file, folders=(*below, folder), fallback=folder)
        return replace(self, files=files)
