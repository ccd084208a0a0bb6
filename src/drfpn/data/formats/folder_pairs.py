"""Folders of images and of their annotation files in a data set without lists."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

from drfpn.data.formats.files import FileIndex, child, list_files
from drfpn.data.formats.split_names import SYNONYMS
from drfpn.data.image_formats import is_image_file, walk_files

_CHECKED_FILES = 20
IMAGE_FOLDERS = ("JPEGImages", "images", "image", "imgs", "img")


@dataclass(frozen=True)
class FolderPair:
    """Folder of the images of a split, and folder of its annotation files.

    They may be the same one, and both may have subfolders.
    """

    images: Path
    annotations: Path
    is_annotation_file: Callable[[Path], bool]
    """Whether a path has the suffix of an annotation file."""

    @cached_property
    def image_index(self) -> FileIndex:
        """The images."""
        return FileIndex(self.images, list_files(self.images, is_image_file))

    @cached_property
    def annotation_index(self) -> FileIndex:
        """The annotation files."""
        return FileIndex(self.annotations, list_files(self.annotations, self.is_annotation_file))


def find_folder_pairs(
    root: Path,
    annotation_folders: tuple[str, ...],
    is_annotation_file: Callable[[Path], bool],
    is_annotation: Callable[[Path], bool],
) -> dict[str, FolderPair]:
    """Return the folders of each split, ``all`` for the only one; empty if there are no such folders.

    Known are folders of splits with images and annotation files in them or in two folders below, two folders with
    folders of splits below, and images and annotation files in one folder or two.

    Args:
        root: folder of the data set.
        annotation_folders: names that folders of annotation files have, in any letter case.
        is_annotation_file: returns whether a path has the suffix of an annotation file.
        is_annotation: returns whether such a file holds annotations; some files of a folder are tried.
    """

    def has_annotations(folder: Path) -> bool:
        files = filter(is_annotation_file, walk_files(folder))
        return any(map(is_annotation, islice(files, _CHECKED_FILES)))

    def pair(folder: Path | None) -> FolderPair | None:
        if folder is None:
            return None
        annotations = child(folder, annotation_folders)
        if annotations is None or not has_annotations(annotations):
            annotations = folder
        images = child(folder, IMAGE_FOLDERS)
        if annotations == folder and not has_annotations(folder):
            return None
        return FolderPair(images if images is not None else folder, annotations, is_annotation_file)

    def below(images: Path | None, annotations: Path | None, names: tuple[str, ...]) -> FolderPair | None:
        if images is None or annotations is None:
            return None
        of_images, of_annotations = child(images, names), child(annotations, names)
        return FolderPair(of_images, of_annotations, is_annotation_file) if of_images and of_annotations else None

    by_split = {split: pair(child(root, names)) for split, names in SYNONYMS.items()}
    if not any(by_split.values()):
        images, annotations = child(root, IMAGE_FOLDERS), child(root, annotation_folders)
        by_split = {split: below(images, annotations, names) for split, names in SYNONYMS.items()}
        if not any(folders is not None and has_annotations(folders.annotations) for folders in by_split.values()):
            by_split = {"all": pair(root)}
    return {split: folders for split, folders in by_split.items() if folders is not None}
