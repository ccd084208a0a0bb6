"""Reader of the YAML file of a YOLO data set: classes, and folders of images."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from drfpn.data.formats.files import FileFinder
from drfpn.data.formats.split_names import is_split_name
from drfpn.utils.errors import UserError, did_you_mean

SPLITS = ("train", "val", "test")

_OTHER_KEYS = ("path", "names", "nc", "download", "kpt_shape", "task")
_POLYGON_TASKS = ("segment", "obb")
_NULL = ("", "~", "null", "Null", "NULL")


@dataclass(frozen=True)
class YoloConfig:
    """Contents of the YAML file of a YOLO data set, or of the files that are there instead of it."""

    file: Path
    """The YAML file, or the file with the names of the classes."""
    root: Path
    """Folder that the splits are relative to."""
    classes: tuple[str, ...]
    sources: dict[str, tuple[Path, ...]]
    """The folders of images and the .txt files that list images, by split, with their paths on disk."""
    keypoints: tuple[int, int] | None = None
    """``kpt_shape``: number of keypoints after each box, and of values of each; ``None`` if it is not stated."""
    has_polygons: bool = False
    """Whether ``task`` states that a line longer than a box is a polygon."""
    label_folders: Mapping[Path, Path] = field(default_factory=dict)
    """The folder of labels for a folder of images, where it is known."""


def read_yolo_config(file: Path) -> YoloConfig:
    """Read the YAML file of a data set as Ultralytics' tools write it.

    - ``path`` may be absolute, relative to the file (else to the working folder), or missing: the file's own folder.
      That is taken too where there is no such folder, but the images are beside the file.
    - ``train``, ``val`` and ``test`` are each a folder, a .txt file or a list of them. ``../train/images`` is also
      searched as ``train/images``, since exports of labeling services are written so, and a path of another computer
      without its first folders. Letter case and Unicode form may differ.
    - ``names`` is a list, or a dict with keys 0..K-1; without it there must be ``nc``, and the names are class_0, ...
    - Any other key whose value is such a folder or .txt file on disk is a split too.
    - ``kpt_shape`` is [K, D]: after each box there are K keypoints of D values, 2 or 3, which are not read. ``task``,
      if it is ``segment`` or ``obb``, states that there are polygons.
    - ``download`` is never followed.

    Args:
        file: the YAML file.

    Raises:
        UserError: the file is not such a YAML file, or a key contradicts another one.
    """
    data = _load(file)
    classes = _classes(file, data)
    root = _root(file, data)
    sources = {split: _sources(root, data[split], f"{file}: {split}") for split in SPLITS if _is_set(data.get(split))}
    sources |= _other_splits(root, data)
    if not sources:
        raise UserError(f"{file} names no images, expected a folder or a .txt file at 'train', 'val' or 'test'.")
    keypoints = _keypoints(file, data.get("kpt_shape"))
    return YoloConfig(file, root, classes, sources, keypoints, has_polygons=data.get("task") in _POLYGON_TASKS)


def is_yolo_yaml(path: Path) -> bool:
    """Return whether a path has the suffix of a YAML file."""
    return path.suffix.lower() in (".yaml", ".yml")


def _load(file: Path) -> dict[str, Any]:
    expected = "the YAML file of a YOLO data set, with 'train', 'val' and 'names'"
    try:
        # All values as text: with YAML's types a class named no would be False.
        data = yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except FileNotFoundError as error:
        existing = [path.name for path in file.parent.iterdir()] if file.parent.is_dir() else []
        raise UserError(f"{file} does not exist, expected {expected}.{did_you_mean(file.name, existing)}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{file} cannot be read as YAML ({reason}), expected {expected}.") from error
    if not isinstance(data, dict):
        raise UserError(f"{file} does not hold keys and values, expected {expected}.")
    return data


def _classes(file: Path, data: dict[str, Any]) -> tuple[str, ...]:
    names, count = data.get("names"), _count(file, data.get("nc"))
    if not _is_set(names):
        if count is None:
            raise UserError(f"{file} has neither 'names' nor 'nc', expected the names of the classes.")
        return tuple(f"class_{number}" for number in range(count))
    if isinstance(names, dict):
        numbered = {int(key) if str(key).isdecimal() else key: name for key, name in names.items()}
        missing = [number for number in range(len(names)) if number not in numbered]
        if missing:
            keys = ", ".join(list(names)[:8])
            raise UserError(f"{file}: the keys of 'names' lack {missing[0]} (they are {keys}), expected 0, 1, 2, ...")
        names = [numbered[number] for number in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise UserError(
            f"{file}: 'names' is {names!r:.60}, expected a list of names or a dict from 0, 1, ... to names."
        )
    if count is not None and count != len(names):
        raise UserError(f"{file}: 'nc' is {count} but 'names' has {len(names)} classes, expected the same count.")
    return tuple(names)


def _count(file: Path, value: Any) -> int | None:
    if not _is_set(value):
        return None
    if not isinstance(value, str) or not value.isdecimal() or not int(value):
        raise UserError(f"{file}: 'nc' is {value!r:.60}, expected the number of classes.")
    return int(value)


def _keypoints(file: Path, value: Any) -> tuple[int, int] | None:
    if not _is_set(value):
        return None
    numbers = [int(part) for part in value if str(part).isdecimal()] if isinstance(value, list) else []
    if len(numbers) != 2 or len(value) != 2 or numbers[0] < 1 or numbers[1] not in (2, 3):
        raise UserError(
            f"{file}: 'kpt_shape' is {value!r:.60}, expected the number of keypoints and 2 or 3 values of each."
        )
    return numbers[0], numbers[1]


def _root(file: Path, data: dict[str, Any]) -> Path:
    value = data.get("path")
    if not _is_set(value):
        return file.parent
    if not isinstance(value, str):
        raise UserError(f"{file}: 'path' is {value!r:.60}, expected the folder of the data set.")
    beside = file.parent / Path(value).expanduser()
    for folder in (beside, Path(value)):
        if folder.is_dir():
            return folder
    values = [part for split in SPLITS for part in _as_list(data.get(split)) if isinstance(part, str) and _is_set(part)]
    if any(_source(file.parent, part).exists() for part in values):  # the path of another computer
        return file.parent
    raise UserError(
        f"{file}: 'path' is '{value}', and there is no such folder (a relative path starts from the file), "
        "expected the folder of the data set ('download' is never followed)."
    )


def _sources(root: Path, value: Any, location: str) -> tuple[Path, ...]:
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(part, str) and part for part in values):
        raise UserError(f"{location} is {value!r:.60}, expected a folder, a .txt file or a list of them.")
    return tuple(_source(root, part) for part in values)


def _other_splits(root: Path, data: dict[str, Any]) -> dict[str, tuple[Path, ...]]:
    """Return the sources of other keys whose folders or files exist, "trainval" for example."""
    splits = {}
    for key, value in data.items():
        values = value if isinstance(value, list) else [value]
        if key in (*SPLITS, *_OTHER_KEYS) or not all(isinstance(part, str) and part for part in values):
            continue
        sources = tuple(_source(root, part) for part in values)
        if sources and all(source.is_dir() or (source.suffix == ".txt" and source.is_file()) for source in sources):
            splits[key] = sources
    return splits


def _source(root: Path, value: str) -> Path:
    path = root / Path(value).expanduser()
    inside = root / value.removeprefix("../")
    if path.exists() and inside.exists() and not path.samefile(inside):
        raise UserError(f"'{value}' may be {path.resolve()} or {inside.resolve()}, expected a path that is only one.")
    if inside.exists():
        return inside
    return FileFinder().find(path) or _without_foreign_folders(root, value) or path


def _without_foreign_folders(root: Path, value: str) -> Path | None:
    """Return what a path of another computer means in ``root``: without its first folders, if none is a split."""
    parts = value.replace("\\", "/").split("/")
    for start in range(1, len(parts)):
        if is_split_name(parts[start - 1]):
            return None
        path = root.joinpath(*parts[start:])
        if parts[start] not in ("", ".", "..") and path.exists():
            return path
    return None


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _is_set(value: Any) -> bool:
    return value is not None and not (isinstance(value, str) and value in _NULL)
