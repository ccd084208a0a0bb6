"""Files of a data set in Pascal VOC's format: its folders, and the lists of the images of each split."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

from drfpn.data.formats.files import child, read_lines
from drfpn.data.formats.folder_pairs import IMAGE_FOLDERS, FolderPair, find_folder_pairs
from drfpn.data.image_formats import is_image_file

ROOT_TAG = "annotation"
ANNOTATION_FOLDERS = ("Annotations", "annotation", "xmls", "xml", "labels")

_FLAGGED = re.compile(r"(.+?)\s+(-1|0|1)")
_LISTS_OF_VOC = ("train", "val", "trainval", "test")


@dataclass(frozen=True)
class VocEntry:
    """An image of a split."""

    key: str
    """Path from the folder of XML files without suffix; from the folder of images if there is no such file."""
    xml: Path | None
    image: str | None = None
    """Its path from the folder of images, if the list has its suffix."""


@dataclass(frozen=True)
class VocSource:
    """What a split is read from."""

    folders: FolderPair
    list_file: Path | None = None
    """Lists the images; ``None`` if the split holds every XML file of its folder."""

    def entries(self) -> list[VocEntry]:
        """Return the images, in the order of the list or of their names."""
        if self.list_file is None:
            index = self.folders.annotation_index
            return [VocEntry(key, index.folder / names[0]) for key, names in index.files.items()]
        names, _ = read_list(self.list_file, partial(_has_file, self.folders))
        return list({entry.key: entry for entry in map(self._entry, names)}.values())

    def _entry(self, name: str) -> VocEntry:
        xml_files, images = self.folders.annotation_index, self.folders.image_index
        # The part behind a dot may belong to the name: the XML file of a.jpg.png is a.jpg.xml.
        key = name if xml_files.match(name) is not None else _without_suffix(name)
        xml_key = xml_files.match(key)
        if xml_key is None and images.match_base(key) is not None:  # of two images it would be the wrong one
            xml_key = xml_files.match_base(key)
        image = images.find(name) if is_image_file(Path(name)) else None
        if xml_key is None:
            return VocEntry(images.match(key) or key, None, image)
        return VocEntry(xml_key, self.folders.annotations / xml_files.files[xml_key][0], image)


def is_xml_file(path: Path) -> bool:
    """Return whether a path has the suffix of an XML file."""
    return path.suffix.lower() == ".xml"


def voc_sources(root: Path) -> dict[str, VocSource]:
    """Return the splits of a folder in VOC's format with lists, or without them; empty if it is no such folder.

    Args:
        root: the folder.
    """
    lists = list_folder(root)
    if lists is None:
        pairs = find_folder_pairs(root, ANNOTATION_FOLDERS, is_xml_file, _is_annotation)
        return {split: VocSource(folders) for split, folders in pairs.items() if _is_paired(folders)}
    images, annotations = child(root, IMAGE_FOLDERS), child(root, ANNOTATION_FOLDERS)
    folders = FolderPair(images or root / "JPEGImages", annotations or root / "Annotations", is_xml_file)
    has_file = partial(_has_file, folders)
    return {split: VocSource(folders, file) for split, file in split_lists(lists, has_file).items()}


def _has_file(folders: FolderPair, name: str) -> bool:
    """Return whether an image or XML file has this name, with or without its suffix."""
    keys = {name, _without_suffix(name)}
    indices = folders.image_index, folders.annotation_index
    return any(index.match(key) is not None for index in indices for key in keys)


def _is_annotation(file: Path) -> bool:
    try:
        with file.open("rb") as content:
            _, element = next(ElementTree.iterparse(content, events=("start",)))
    except (OSError, ElementTree.ParseError, LookupError, ValueError, StopIteration):
        return False
    return local_tag(element) == ROOT_TAG


def local_tag(element: ElementTree.Element) -> str:
    """Return the tag of an element without its namespace."""
    return str(element.tag).rpartition("}")[2]


def _is_paired(folders: FolderPair) -> bool:
    """Return whether images and XML files belong together: not if a folder only has data sets somewhere below it."""
    if folders.images != folders.annotations:
        return True
    images = folders.image_index
    return any(key in images.files or images.find(key) is not None for key in folders.annotation_index.files)


def list_folder(root: Path) -> Path | None:
    """Return ImageSets/Main, or ImageSets if it holds the lists itself; ``None`` if there is neither."""
    image_sets = child(root, ["ImageSets"])
    if image_sets is None:
        return None
    main = child(image_sets, ["Main"])
    return main if main is not None else image_sets if any(image_sets.glob("*.txt")) else None


def split_lists(folder: Path, is_file: Callable[[str], bool]) -> dict[str, Path]:
    """Return the lists of images by split, without VOC's lists of one class, "cat_train".

    Args:
        folder: holds the lists.
        is_file: returns whether there is an image or XML file of a name.
    """
    flagged = {path: read_list(path, is_file)[1] for path in sorted(folder.glob("*.txt")) if path.name[0] != "."}
    splits = {*_LISTS_OF_VOC, *(path.stem for path, of_class in flagged.items() if not of_class)}
    return {
        path.stem: path
        for path, has_flags in flagged.items()
        if not (has_flags and any(path.stem.endswith(f"_{split}") for split in splits))
    }


def read_list(file: Path, is_file: Callable[[str], bool]) -> tuple[list[str], bool]:
    """Return the names in a list, and whether it has VOC's form "name flag" with a flag -1, 0 or 1 in every line.

    A line is a name, with any spaces in it. If it could also be a name and a flag, the names of files decide.

    Args:
        file: the list.
        is_file: returns whether there is an image or XML file of a name.
    """
    lines = read_lines(file)
    matches = [match for line in lines if (match := _FLAGGED.fullmatch(line))]
    if not lines or len(matches) < len(lines) or any(map(is_file, lines)):
        return [_unquoted(line) for line in lines], False
    return [_unquoted(match[1]) for match in matches], True


def _unquoted(name: str) -> str:
    """Return a name without the quotes that CVAT puts around one with spaces, and with / between its folders."""
    if len(name) > 2 and name[0] == name[-1] == '"':
        name = name[1:-1]
    return name.replace("\\", "/").removeprefix("./")


def _without_suffix(name: str) -> str:
    path = Path(name)
    return name.removesuffix(path.suffix) if is_image_file(path) or is_xml_file(path) else name
