"""Reader of Hugging Face's ImageFolder for detection: metadata.jsonl with a line for each image."""

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from drfpn.data.annotations import Annotations
from drfpn.data.formats.coco_records import CocoRecords
from drfpn.data.formats.coco_values import integer
from drfpn.data.formats.file_layout import FileLayout, Reader, SplitFile
from drfpn.data.formats.split_names import is_split_name, name_splits
from drfpn.data.progress import ProgressCallback
from drfpn.data.validation.issues import Issue, IssueHandler

METADATA = "metadata.jsonl"

_BOXES = ("bbox", "bboxes", "boxes")
_CATEGORIES = ("categories", "category", "category_id", "labels", "label", "class")


def find_image_folder_layout(root: Path) -> FileLayout | None:
    """Return the layout of an ImageFolder: {split}/metadata.jsonl, or one in the root whose files are in {split}/."""
    files = {file.parent.name: file for file in sorted(root.glob(f"*/{METADATA}")) if _has_objects(file)}
    if files:
        names = name_splits(files)
        return FileLayout(root, tuple(names), {split: _split_file(files[name]) for split, name in names.items()})
    return image_folder_layout(root / METADATA, root) if _has_objects(root / METADATA) else None


def image_folder_layout(file: Path, root: Path | None = None) -> FileLayout:
    """Return the layout of one metadata.jsonl.

    Args:
        file: the metadata.
        root: name of the data set in messages; ``None`` for ``file``.
    """
    folders = dict.fromkeys(name.replace("\\", "/").split("/")[0] for name in _names(file) if "/" in name)
    names = name_splits(folder for folder in folders if is_split_name(folder))
    files = {split: _split_file(file, partial(_read_part, folder=folder)) for split, folder in names.items()}
    if not files:
        only = file.resolve().parent.name
        files = {split: _split_file(file) for split in name_splits([only if is_split_name(only) else "all"])}
    return FileLayout(root or file, tuple(files), files)


def parse_image_folder(
    file: Path,
    image_root: Path,
    on_issue: IssueHandler,
    progress: ProgressCallback | None = None,
    *,
    segmentations: bool = True,
    folder: str | None = None,
) -> Annotations | None:
    """Read the valid lines of a metadata.jsonl and report the others; ``None`` if nothing is valid.

    Boxes are x, y, width, height in pixels. Classes are names, or numbers whose names are those of ``class_label`` in
    the README.md of the data set.

    Args:
        file: the metadata.
        image_root: folder that file names are relative to.
        on_issue: called with each issue.
        progress: not called: the file is small.
        segmentations: keep the segmentations.
        folder: read only images in this folder; ``None`` for all.
    """
    records = CocoRecords(file, on_issue, segmentations=segmentations)
    categories: set[str | int] = set()
    parsed: list[tuple[int, dict[str, Any]]] = []
    for number, line in _lines(file, on_issue):
        name = line.get("file_name")
        if folder is not None and not (isinstance(name, str) and name.replace("\\", "/").startswith(f"{folder}/")):
            continue
        objects = _objects(line.get("objects"))
        if objects is None:
            observed, expected = "its objects have no boxes or no categories", "lists `bbox` and `categories`"
            on_issue(Issue("bad-record", f"{file}: line {number}", observed, expected))
            continue
        records.add_image(number - 1, {"id": number, "file_name": name} | _size(line))
        for record in objects:
            category = record["category"]
            if isinstance(category, str) or integer(category) is not None:
                categories.add(category)
            parsed.append((number, record))
    names = _category_names(file, categories, on_issue)
    for index, (category_id, name) in enumerate(names.values()):
        records.add_category(index, {"id": category_id, "name": name})
    for index, (number, record) in enumerate(parsed):
        category = record["category"]
        known = names.get(category) if isinstance(category, str | int) else None
        records.add_annotation(
            index, {**record, "image_id": number, "category_id": category if known is None else known[0]}
        )
    return records.annotations(image_root)


def _read_part(
    file: Path,
    image_root: Path,
    on_issue: IssueHandler,
    progress: ProgressCallback | None = None,
    /,
    *,
    segmentations: bool = True,
    folder: str,
) -> Annotations | None:
    return parse_image_folder(file, image_root, on_issue, progress, segmentations=segmentations, folder=folder)


def _split_file(file: Path, read: Reader = parse_image_folder) -> SplitFile:
    return SplitFile(file, (file.parent,), file.parent, read, _names)


def _has_objects(file: Path) -> bool:
    return any("objects" in line for _, line in _lines(file, lambda issue: None, 1))


def _names(file: Path) -> list[str]:
    return [str(line["file_name"]) for _, line in _lines(file, lambda issue: None) if "file_name" in line]


def _lines(file: Path, on_issue: IssueHandler, count: int | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number, from 1, and the object of each line that is not empty; ``count`` lines at most."""
    if not file.is_file():
        return
    with file.open(encoding="utf-8-sig", errors="replace") as stream:
        for number, text in enumerate(stream, start=1):
            if not text.strip():
                continue
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                line = None
            if isinstance(line, dict):
                yield number, line
            else:
                on_issue(Issue("bad-record", f"{file}: line {number}", f"it is {text.strip()!r:.40}", "a JSON object"))
            if number == count:
                return


def _objects(value: Any) -> list[dict[str, Any]] | None:
    """Return a record with bbox and category for each object, written as a dict of lists or a list of dicts."""
    if isinstance(value, dict):
        lists = {key: values for key, values in value.items() if isinstance(values, list)}
        if len({len(values) for values in lists.values()}) != 1:
            return None
        value = [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
        if not value:
            return []
    if not isinstance(value, list):
        return None
    records = []
    for entry in value:
        boxes = [entry[key] for key in _BOXES if key in entry] if isinstance(entry, dict) else []
        categories = [entry[key] for key in _CATEGORIES if key in entry] if boxes else []
        if not categories:
            return None
        known = {key: entry[key] for key in ("area", "iscrowd", "segmentation") if key in entry}
        records.append({"bbox": boxes[0], "category": categories[0], **known})
    return records


def _size(line: Mapping[str, Any]) -> dict[str, Any]:
    return {side: line[side] for side in ("width", "height") if side in line}


def _category_names(file: Path, used: set[str | int], on_issue: IssueHandler) -> dict[str | int, tuple[int, str]]:
    """Return id and name of each class by what the objects have: its name or its number.

    The names in the README come first, in their order, whether objects have them or not.
    """
    names = sorted(category for category in used if isinstance(category, str))
    numbers = sorted(category for category in used if not isinstance(category, str))
    if names and numbers:
        observed = f"some classes are names ('{names[0]}') and some are numbers ({numbers[0]})"
        on_issue(Issue("bad-record", str(file), observed, "one of the two"))
    named = _readme_names(file)
    if names:
        ordered = list(dict.fromkeys([*(named.values() if set(names) <= set(named.values()) else ()), *names]))
        return {name: (number, name) for number, name in enumerate(ordered)}
    if numbers and not named:
        observed = "its classes are numbers, and no README.md beside it names them (`class_label`)"
        on_issue(Issue("unnamed-classes", str(file), observed, "names of classes", fatal=False))
    return {number: (number, named.get(number, str(number))) for number in dict.fromkeys([*sorted(named), *numbers])}


def _readme_names(file: Path) -> dict[int, str]:
    """Return the names of ``class_label`` in the YAML of the README of the data set, by number; empty without any."""
    for folder in (file.parent, file.parent.parent):
        try:
            parts = (folder / "README.md").read_text(encoding="utf-8-sig").split("---", 2)
            header = yaml.safe_load(parts[1]) if len(parts) == 3 and not parts[0].strip() else None
        except (OSError, ValueError, yaml.YAMLError):
            continue
        for names in _find_class_labels(header):
            return names
    return {}


def _find_class_labels(value: Any) -> Iterator[dict[int, str]]:
    """Yield the names of each class_label, a dict or a list, somewhere in a YAML value."""
    if isinstance(value, Mapping):
        label = value.get("class_label")
        names = label.get("names") if isinstance(label, Mapping) else None
        if isinstance(names, list):
            yield {number: str(name) for number, name in enumerate(names)}
        elif isinstance(names, Mapping) and all(str(number).isdigit() for number in names):
            yield {int(number): str(name) for number, name in names.items()}
    for inner in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from _find_class_labels(inner)
