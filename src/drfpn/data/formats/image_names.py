"""``ImageFinder``: finds the image file of a name that another tool or another file system has changed."""

import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from urllib.parse import unquote

from drfpn.data.formats.files import FolderListings, base_name, fold, list_files
from drfpn.data.formats.split_names import is_split_name
from drfpn.data.image_formats import is_image_file, walk_files

_OTHER_IMAGES = re.compile("mask|segm|label|depth|thumb|annot")
"""Folders of images that are not those of the data set, but have their names."""


class ImageFinder:
    """Finds files below a folder, exactly as named, or by rules for how names get changed.

    A name that does not exist is tried with slashes for backslashes, with ``%20`` and the like decoded, without a
    leading ``./`` or ``/``, and without leading folders that are the folder itself; then with other letter case or
    other Unicode normalization.

    Args:
        root: the folder; it may be missing.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listings = FolderListings()

    def exists(self, name: str) -> bool:
        """Return whether a file exists exactly as named.

        Args:
            name: path relative to the folder.
        """
        folder, _, last = name.rpartition("/")
        if name.startswith("/") or os.sep != "/" or not _is_plain(name):
            return (self._root / name).is_file()
        return last in self._names(folder).get(fold(last), ())

    def find(self, name: str) -> list[str]:
        """Return the paths of the files that a name may mean: none, one, or several if it is ambiguous.

        Args:
            name: path relative to the folder, which does not exist.
        """
        variants = _variants(name, self._root)
        exact = {variant for variant in variants if self.exists(variant)}
        return sorted(exact or {path for variant in variants for path in self._similar(variant)})

    def find_bases(self, names: Iterable[str], used: Collection[str]) -> dict[str, list[str]]:
        """Return the files anywhere below the folder that are the only ones of the last part of names, by name.

        That may be another image, so no file is returned for names that share their last part, nor one that another
        image has, nor one in a folder of another split or of masks.

        Args:
            names: paths for which ``find`` finds nothing.
            used: the files of other images.
        """
        by_base: dict[str, set[str]] = {}
        for name in names:
            by_base.setdefault(fold(_base(name)), set()).add(name)
        files: dict[str, list[str]] = {}
        for path in walk_files(self._root):
            if (base := fold(path.name)) in by_base and is_image_file(path):
                files.setdefault(base, []).append(path.relative_to(self._root).as_posix())
        matches = {}
        for base, candidates in files.items():
            if len(by_base[base]) == len(candidates) == 1 and candidates[0] not in used:
                (name,) = by_base[base]
                folders = {fold(part) for part in candidates[0].split("/")[:-1]}
                foreign = folders - {fold(part) for part in re.split(r"[/\\]", name)}
                if not any(is_split_name(part.rstrip("0123456789")) or _OTHER_IMAGES.search(part) for part in foreign):
                    matches[name] = candidates
        return matches

    def _similar(self, name: str) -> set[str]:
        """Return the files whose path differs in letter case and Unicode normalization only."""
        folders = {""}
        *parents, last = name.split("/")
        for part in parents:
            folders = {
                f"{folder}{entry}/" for folder in folders for entry in self._names(folder[:-1]).get(fold(part), ())
            }
        return {f"{folder}{entry}" for folder in folders for entry in self._names(folder[:-1]).get(fold(last), ())}

    def _names(self, folder: str) -> dict[str, list[str]]:
        """Return the names in a folder by their folded form; empty if it cannot be listed."""
        return self._listings.names(os.path.join(self._root, folder))


def direct_or_below(folder: Path) -> list[Path]:
    """Return the images in a folder, or else those in its subfolders, sorted.

    Args:
        folder: the folder; it may be missing.
    """
    direct = [path for path in sorted(folder.iterdir()) if is_image_file(path)] if folder.is_dir() else []
    return direct or list_files(folder, is_image_file)


def file_key(root: Path, name: str) -> str:
    """Return a text that is the same for all names of one file in a folder, such as a.jpg and ./a.jpg.

    Args:
        root: the folder.
        name: path relative to it, or an absolute one.
    """
    if _is_plain(name) and not name.startswith("/"):
        return name
    folder, last = os.path.split(root / name)
    return os.path.join(os.path.relpath(os.path.realpath(folder), os.path.realpath(root)), last).removeprefix("./")


def choose_folder(folders: Iterable[Path], names: Iterable[str]) -> Path | None:
    """Return the first folder that holds one of some images, or ``None``.

    Args:
        folders: folders, which may be missing.
        names: some of the file names in the annotations.
    """
    names = list(names)
    for folder in folders:
        finder = ImageFinder(folder)
        if folder.is_dir() and any(finder.exists(name) or finder.find(name) for name in names):
            return folder
    return None


def _variants(name: str, root: Path) -> set[str]:
    """Return the relative paths that a name can mean."""
    variants = set[str]()
    for text in {name, unquote(name)}:
        for path in {text, text.replace("\\", "/")}:
            parts = [part for part in path.split("/") if part not in ("", ".")]
            starts = [0, *(i for i, part in enumerate(parts[:-1], start=1) if part == root.name)]
            variants |= {"/".join(parts[start:]) for start in starts if parts}
    return {variant for variant in variants if _is_plain(variant)}


def _base(name: str) -> str:
    """Return the last part of a path or an address, decoded."""
    path = name.partition("?")[0] if "://" in name else name
    return base_name(unquote(path))


def _is_plain(name: str) -> bool:
    return not {"", ".", ".."} & set(name.split("/"))
