"""Folder layouts of data sets in COCO's format, as COCO, CVAT, Roboflow, Label Studio and FiftyOne write them."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from drfpn.data.formats.coco import parse_coco
from drfpn.data.formats.file_layout import FileLayout, SplitFile
from drfpn.data.formats.split_names import is_split_name, name_splits
from drfpn.utils.errors import UserError

ROBOFLOW_FILE = "_annotations.coco.json"

_INSTANCES = ("instances", "person_keypoints")
"""Files in annotations/ by what comes before the split; the first kind that is there is read."""

_OTHER_COCO = re.compile(r"(instances|captions|person_keypoints|panoptic|stuff|image_info)_")
"""Other annotation files of COCO in the same folder as the instances."""

_SINGLE_FILES = ("result", "labels", "annotations", "instances", "coco", "_annotations")
"""Names without suffix of files beside the images that do not name a split."""

_HEAD = 1 << 16
"""Bytes in which a file is recognized."""
_MAX_SNIFFED = 20
"""Files of one folder that are looked into."""


def find_coco_layout(root: Path) -> FileLayout | None:
    """Return the layout of a folder in COCO's format with a file for each split; ``None`` if it is none.

    Known are annotations/instances_{split}2017.json with {split}2017/ (COCO), annotations/instances_{split}.json with
    images/{split}/ or images/ (CVAT), annotations/person_keypoints_{split}2017.json, annotations/{split}.json, and
    {split}/_annotations.coco.json with the images beside it (Roboflow).
    """
    annotations = root / "annotations"
    for kind in _INSTANCES:
        files = {path.stem.removeprefix(f"{kind}_"): path for path in sorted(annotations.glob(f"{kind}_*.json"))}
        if kind == "instances":
            files |= _unannotated(annotations, files)
        if files:
            return _layout(root, {_without_year(name, files): path for name, path in files.items()})
    plain = [path for path in sorted(annotations.glob("*.json")) if not _OTHER_COCO.match(path.name)]
    is_short = len(plain) <= _MAX_SNIFFED
    if plain := [path for path in plain if is_coco_file(path) or (is_short and not _is_labelme_file(path))]:
        return _layout(root, {path.stem: path for path in plain})
    below = {path.parent.name: path for path in sorted(root.glob(f"*/{ROBOFLOW_FILE}"))}
    return _layout(root, below) if below else None


def find_single_coco_layout(root: Path) -> FileLayout | None:
    """Return the layout of a folder with COCO's JSON beside the images or their folder; ``None`` if it is none.

    Known are result.json (Label Studio), labels.json (FiftyOne), _annotations.coco.json and others that hold lists of
    COCO, in the folder itself or in one for each split.

    Raises:
        UserError: a folder of a split has several files.
    """
    if files := _coco_files(root):
        return _layout(root, files)
    below = {folder.name: _coco_files(folder) for folder in sorted(root.iterdir()) if is_split_name(folder.name)}
    for name, candidates in below.items():
        if len(candidates) > 1:
            names = ", ".join(path.name for path in candidates.values())
            raise UserError(f"{root / name} has several files of COCO ({names}), expected one for the split.")
    files = {name: next(iter(candidates.values())) for name, candidates in below.items() if candidates}
    return _layout(root, files) if files else None


def coco_file_layout(file: Path) -> FileLayout:
    """Return the layout of one JSON file in COCO's format, with the images beside it or in a folder there.

    Args:
        file: the annotations.
    """
    folder = file.parent.parent if file.parent.name == "annotations" else file.parent
    return _layout(folder, {_name_of(file): file}, root=file)


def is_coco_file(file: Path) -> bool:
    """Return whether a JSON file starts like one of COCO's: with a list of images or annotations.

    Args:
        file: the file.
    """
    return bool(re.search(r'"(images|annotations)"\s*:\s*\[', _head(file)))


def _is_labelme_file(file: Path) -> bool:
    return bool(re.search(r'"shapes"\s*:\s*\[', _head(file)))


def _unannotated(annotations: Path, annotated: Mapping[str, Path]) -> dict[str, Path]:
    """Return the lists of test images without annotations, which use one folder for test and test-dev."""
    files = {path.stem.removeprefix("image_info_"): path for path in sorted(annotations.glob("image_info_test*.json"))}
    return {name: path for name, path in files.items() if name not in annotated}


def _without_year(name: str, names: Iterable[str]) -> str:
    """Return the split of train2017; years other than 2017 stay if there are several."""
    match = re.fullmatch(r"(.+?)(20\d\d)", name)
    if match is None:
        return name
    others = [other for other in names if other != name and re.fullmatch(re.escape(match[1]) + r"(20\d\d)?", other)]
    return match[1] if match[2] == "2017" or not others else name


def _coco_files(folder: Path) -> dict[str, Path]:
    """Return the COCO files beside images by the names of their splits."""
    if not folder.is_dir():
        return {}
    candidates = [path for path in sorted(folder.glob("*.json")) if not path.name.startswith(".")][:_MAX_SNIFFED]
    return {_name_of(path): path for path in candidates if is_coco_file(path)}


def _name_of(file: Path) -> str:
    """Return the name of the split of a file beside the images: of its folder if the file has no name of its own."""
    stem = re.sub(r"(20\d\d)?(\.coco)?$", "", file.stem.removeprefix("instances_"))
    if stem not in _SINGLE_FILES:
        return stem
    folder = file.resolve().parent.name
    return folder if is_split_name(folder) else "all"


def _layout(folder: Path, files: Mapping[str, Path], root: Path | None = None) -> FileLayout:
    """Return the layout of files by the names of their splits on disk."""
    names = name_splits(files)
    return FileLayout(
        root or folder,
        tuple(names),
        {
            split: SplitFile(files[name], *_image_folders(folder, files[name], name), parse_coco, first_names)
            for split, name in names.items()
        },
    )


def _image_folders(root: Path, file: Path, name: str) -> tuple[tuple[Path, ...], Path]:
    """Return the folders that may hold the images of a file, and the one to take if none of them exists."""
    beside, images = file.parent, root / "images"
    if file.name == ROBOFLOW_FILE or beside == root:
        return (beside / name, beside / "images", beside / "data"), beside
    year = re.search(r"20\d\d$", file.stem)
    if year is None:
        return (
            images / name,
            beside / "images",
            beside / "data",
            root / name,
            images,
        ), root if beside.name != "annotations" else images
    dated = f"{'test' if name.startswith('test') else name}{year[0]}"  # test-dev has the images of test
    return (root / dated, images / dated, images / name, root / name, images), root / dated


def first_names(file: Path, count: int = 20) -> list[str]:
    """Return the first file names in the head of a JSON file.

    Args:
        file: the file.
        count: number of names, at most.
    """
    names = re.findall(r'"file_name"\s*:\s*("(?:[^"\\]|\\.)+")', _head(file))
    return [json.loads(name) for name in names[:count]]


def _head(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            head = stream.read(_HEAD)
    except OSError:
        return ""
    return head.decode(json.detect_encoding(head), errors="ignore")
