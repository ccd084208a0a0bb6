"""YOLO data sets without a YAML file: classes.txt or darknet's obj.data, and folders of images and labels."""

from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path

from drfpn.data.formats.files import FileFinder, child, read_lines, read_text, split_lines
from drfpn.data.formats.folder_pairs import find_folder_pairs
from drfpn.data.formats.split_names import canonical_split
from drfpn.data.formats.yolo_files import LABEL_FOLDER, NAME_FILES, has_label_line, is_label_file, listed_path
from drfpn.data.formats.yolo_yaml import YoloConfig, is_yolo_yaml
from drfpn.data.image_formats import is_image_file, walk_files
from drfpn.utils.errors import UserError

_DARKNET_SPLITS = ("train", "valid", "val", "test")


def read_yolo_folder(root: Path) -> YoloConfig | None:
    """Return the configuration of a folder with labels in YOLO's format; ``None`` if it is none.

    - obj.data of darknet names the lists of images and the file with the names of the classes.
    - Else the folders are those of ``folder_pairs``, and the names are in classes.txt, obj.names or the like: in the
      folder, or with the labels.

    Args:
        root: the folder.

    Raises:
        UserError: there are no names of classes, or several that differ.
    """
    config = _read_darknet(root)
    if config is not None:
        return config
    pairs = find_folder_pairs(root, (LABEL_FOLDER, "label"), is_label_file, has_label_line)
    if not any(any(map(is_image_file, walk_files(pair.images))) for pair in pairs.values()):
        return None
    folders = [root, *(pair.annotations for pair in pairs.values()), *(pair.images for pair in pairs.values())]
    folders += [folder for name in (LABEL_FOLDER, "data") if (folder := child(root, [name])) is not None]
    file = _find_names(folders)
    if file is None:
        if any(map(is_yolo_yaml, root.iterdir())):
            return None  # named in the message about the folder
        raise UserError(
            f"{root} holds labels in YOLO's format without names of their classes, expected classes.txt, with one name "
            "a line from class 0 on, or data.yaml."
        )
    sources: dict[str, tuple[Path, ...]] = {split: (pair.images,) for split, pair in pairs.items()}
    label_folders = {pair.images: pair.annotations for pair in pairs.values()}
    return YoloConfig(file, root, _read_names(file), sources, label_folders=label_folders)


def _find_names(folders: Iterable[Path]) -> Path | None:
    """Return the first file with names of classes; all that are there must be equal."""
    files = [folder / name for name in NAME_FILES for folder in dict.fromkeys(folders) if (folder / name).is_file()]
    for file in files[1:]:
        if _read_names(file) != _read_names(files[0]):
            raise UserError(f"{file} and {files[0]} hold different names of classes, expected one such file.")
    return files[0] if files else None


def _read_names(file: Path) -> tuple[str, ...]:
    """Return the names of the classes; the number of a line is the id of its class."""
    names = split_lines(read_text(file))
    trailing = sum(1 for _ in takewhile(lambda name: not name, reversed(names)))
    names = names[: len(names) - trailing]
    if not names:
        raise UserError(f"{file} is empty, expected the names of the classes, one a line.")
    if "" in names:
        line = names.index("") + 1
        raise UserError(f"{file}: line {line} is empty, expected the name of class {line - 1}, or no such line.")
    return tuple(names)


def _read_darknet(root: Path) -> YoloConfig | None:
    """Return the configuration of the only .data file in a folder that names the classes and lists of images."""
    candidates = [values for file in sorted(root.glob("*.data")) if "names" in (values := _read_values(file))]
    if len(candidates) != 1:
        return None
    (values,) = candidates
    file, finder = root / "obj.data", FileFinder()
    names_file = listed_path(values["names"], file, root, finder)
    lists = {key: listed_path(values[key], file, root, finder) for key in _DARKNET_SPLITS if values.get(key)}
    sources: dict[str, tuple[Path, ...]] = {
        canonical_split(key): (path,) for key, path in lists.items() if path.exists()
    }
    if not names_file.is_file() or not sources:
        missing = names_file if not names_file.is_file() else next(iter(lists.values()), root / "train.txt")
        raise UserError(f"{missing} does not exist, which the .data file in {root} names.")
    return YoloConfig(names_file, root, _read_names(names_file), sources)


def _read_values(file: Path) -> dict[str, str]:
    try:
        pairs = [line.split("=", 1) for line in read_lines(file) if "=" in line]
    except UserError:  # some other file with this suffix
        return {}
    return {key.strip(): value.strip() for key, value in pairs}
