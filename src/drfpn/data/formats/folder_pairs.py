"""Folders of images and of their annotation files in a data set without lists."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from drfpn.data.formats.files import child
from drfpn.data.formats.split_names import SYNONYMS

IMAGE_FOLDERS = ("JPEGImages", "images", "image", "imgs", "img")


@dataclass(frozen=True)
class FolderPair:
    """Folder of the images of a split, and folder of its annotation files; they may be the same one."""

    images: Path
    annotations: Path


def find_folder_pairs(
    root: Path, annotation_folders: tuple[str, ...], has_annotations: Callable[[Path], bool]
) -> dict[str, FolderPair]:
    """Return the folders of each split, ``all`` for the only one; empty if there are no such folders.

    Known are folders of splits with images and annotation files in them or in two folders below, two folders with
    folders of splits below, and images and annotation files in one folder or two.

    Args:
        root: folder of the data set.
        annotation_folders: names that folders of annotation files have, in any letter case.
        has_annotations: returns whether a folder or its subfolders hold annotation files.
    """

    def pair(folder: Path | None) -> FolderPair | None:
        if folder is None:
            return None
        annotations = child(folder, annotation_folders)
        if annotations is None or not has_annotations(annotations):
            annotations = folder
        images = child(folder, IMAGE_FOLDERS)
        if annotations == folder and not has_annotations(folder):
            return None
        return FolderPair(images if images is not None else folder, annotations)

    by_split = {split: pair(child(root, names)) for split, names in SYNONYMS.items()}
    if not any(by_split.values()):
        images, annotations = child(root, IMAGE_FOLDERS), child(root, annotation_folders)
        by_split = {split: _below(images, annotations, names) for split, names in SYNONYMS.items()}
        if not any(folders is not None and has_annotations(folders.annotations) for folders in by_split.values()):
            by_split = {"all": pair(root)}
    return {split: folders for split, folders in by_split.items() if folders is not None}


def _below(images: Path | None, annotations: Path | None, names: tuple[str, ...]) -> FolderPair | None:
    if images is None or annotations is None:
        return None
    image_folder, annotation_folder = child(images, names), child(annotations, names)
    return FolderPair(image_folder, annotation_folder) if image_folder and annotation_folder else None
