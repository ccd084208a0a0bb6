"""``ImageFinder``: finds the image file of a name that another tool or another file system has changed."""

import os
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

from drfpn.data.formats.files import fold


class ImageFinder:
    """Finds files below a folder, exactly as named, or by rules for how names get changed.

    A name that does not exist is tried with slashes for backslashes, with ``%20`` and the like decoded, without a
    leading ``./`` or ``/``, and without leading folders that are the folder itself; then with other letter case or
    other Unicode normalization. Folders are listed once, so that many files cost few accesses.

    Args:
        root: the folder; it may be missing.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listings: dict[str, dict[str, list[str]]] = {}

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
        if folder not in self._listings:
            listing: dict[str, list[str]] = {}
            try:
                entries = os.listdir(self._root / folder)
            except OSError:
                entries = []
            for entry in entries:
                listing.setdefault(fold(entry), []).append(entry)
            self._listings[folder] = listing
        return self._listings[folder]


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
    """Return the relative paths that a name may stand for."""
    variants = set[str]()
    for text in {name, unquote(name)}:
        for path in {text, text.replace("\\", "/")}:
            parts = [part for part in path.split("/") if part not in ("", ".")]
            starts = [0, *(i for i, part in enumerate(parts[:-1], start=1) if part == root.name)]
            variants |= {"/".join(parts[start:]) for start in starts if parts}
    return {variant for variant in variants if _is_plain(variant)}


def _is_plain(name: str) -> bool:
    return not {"", ".", ".."} & set(name.split("/"))
