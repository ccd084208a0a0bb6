"""Files of a data set: names that differ in letter case or Unicode form only, and lists of names."""

import codecs
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from drfpn.data.image_formats import walk_files
from drfpn.utils.errors import UserError


def list_files(folder: Path, accept: Callable[[Path], bool]) -> list[Path]:
    """Return the files below a folder for which ``accept`` is true, sorted by path; see ``walk_files``.

    Args:
        folder: the folder; it may be missing.
        accept: called with the path of each file.
    """
    return sorted(filter(accept, walk_files(folder)))


def fold(name: str) -> str:
    """Return a name in the form in which names that differ in letter case or Unicode form (NFC, NFD) are equal."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def letters(name: str) -> str:
    """Return the letters and digits of the last part of a path, folded."""
    return "".join(filter(str.isalnum, fold(base_name(name))))


def base_name(name: str) -> str:
    """Return the last part of a path as written on any system."""
    return name.replace("\\", "/").rpartition("/")[2]


class FileIndex:
    """Files below a folder by their key: the path from the folder, without the last suffix.

    Args:
        folder: the folder.
        files: paths of files below it.
    """

    def __init__(self, folder: Path, files: Iterable[Path]) -> None:
        self.folder = folder
        self.files: dict[str, list[str]] = defaultdict(list)
        """The paths of files, from the folder, by key."""
        for file in files:
            name = file.relative_to(folder).as_posix()
            self.files[name.removesuffix(file.suffix)].append(name)
        self._folded = _by(fold, self.files)
        self._bases = _by(lambda key: fold(base_name(key)), self.files)
        self._letters = _by(letters, self.files)

    def paths(self) -> list[Path]:
        """Return the paths of all files."""
        return [self.folder / name for names in self.files.values() for name in names]

    def match(self, key: str) -> str | None:
        """Return the key that equals ``key``, or else the only one that differs in letter case or Unicode form."""
        return key if key in self.files else _only(self._folded.get(fold(key)))

    def match_base(self, key: str) -> str | None:
        """Return the only key whose last part is that of ``key``, with any folders before it."""
        return _only(self._bases.get(fold(base_name(key))))

    def match_letters(self, key: str) -> str | None:
        """Return the only key that differs in nothing but case, spaces and punctuation: a likely slip, not a match."""
        return _only(self._letters.get(letters(key)))

    def find(self, name: str) -> str | None:
        """Return the path of the file ``name``, or else of the only one that differs in letter case or Unicode form."""
        key = self.match(name.removesuffix(Path(name).suffix))
        candidates = self.files[key] if key is not None else []
        return name if name in candidates else _only([other for other in candidates if fold(other) == fold(name)])


class FolderListings:
    """The names in folders; each folder is listed once, so that many files cost few accesses."""

    def __init__(self) -> None:
        self._names: dict[str, dict[str, list[str]]] = {}

    def names(self, folder: str) -> dict[str, list[str]]:
        """Return the names in a folder by their folded form; empty if it cannot be listed.

        Args:
            folder: path of the folder.
        """
        if folder not in self._names:
            try:
                self._names[folder] = _by(fold, os.listdir(folder))
            except OSError:  # missing, a file, or not readable
                self._names[folder] = {}
        return self._names[folder]


class FileFinder:
    """Finds files whose paths are written in other letter case or Unicode form."""

    def __init__(self) -> None:
        self._listings = FolderListings()
        self._folders: dict[Path, Path | None] = {}

    def find(self, path: Path) -> Path | None:
        """Return the file or folder ``path``, or the only one that differs in letter case or Unicode form."""
        if path.parent == path:
            return path if path.exists() else None
        parent = self._folder(path.parent)
        if parent is None:
            return None
        names = self._listings.names(str(parent)).get(fold(path.name), [])
        name = path.name if path.name in names else _only(names)
        return None if name is None else parent / name

    def _folder(self, path: Path) -> Path | None:
        if path not in self._folders:
            self._folders[path] = path if path.is_dir() else self.find(path)
        return self._folders[path]


def read_lines(file: Path) -> list[str]:
    """Return the lines of a text file without blanks around them, and without empty ones; see ``read_text``.

    Args:
        file: the file.

    Raises:
        UserError: it cannot be read.
    """
    return list(filter(None, split_lines(read_text(file))))


def split_lines(text: str) -> list[str]:
    """Return the lines of a text without blanks around them.

    Lines end with LF, CR LF or CR. Other separators, such as U+2028, may be part of a file name.

    Args:
        text: the text.
    """
    return [line.strip() for line in re.split(r"\r\n|\n|\r", text)]


def read_text(file: Path) -> str:
    """Return the text of a file in UTF-8 or, where it begins with a byte order mark, UTF-16.

    Args:
        file: the file.

    Raises:
        UserError: it cannot be read, or has another encoding.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}).") from error
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    encoding = "utf-16" if is_utf16 else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        name = "UTF-16" if is_utf16 else "UTF-8"
        raise UserError(f"{file} is not text in {name} (line {line}), expected it saved as UTF-8.") from error


def child(folder: Path, names: Iterable[str]) -> Path | None:
    """Return the first of ``names`` that is a subfolder, in any letter case; ``None`` if there is none.

    Args:
        folder: the folder; it may be missing.
        names: names in the order of preference.
    """
    if not folder.is_dir():
        return None
    subfolders = _by(fold, (path.name for path in sorted(folder.iterdir()) if path.is_dir()))
    for name in names:
        if existing := subfolders.get(fold(name)):
            return folder / (name if name in existing else existing[0])
    return None


def _by(key: Callable[[str], str], values: Iterable[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for value in values:
        groups[key(value)].append(value)
    return dict(groups)


def _only(values: list[str] | None) -> str | None:
    return values[0] if values and len(values) == 1 else None
