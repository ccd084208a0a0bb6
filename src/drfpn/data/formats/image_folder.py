"""Reader of Hugging Face's ImageFolder for detection: metadata.jsonl with a line for each image."""

import codecs
import json
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from drfpn.data.annotations import Annotations
from drfpn.data.formats.coco_records import CocoRecords
from drfpn.data.formats.coco_values import integer
from drfpn.data.formats.file_layout import FileLayout, Reader, SplitFile
from drfpn.data.formats.split_names import OTHERS, is_split_name, name_splits
from drfpn.data.progress import ProgressCallback
from drfpn.data.validation.issues import Issue, IssueHandler, raise_issue

METADATA = "metadata.jsonl"

_BOXES = ("bbox", "bboxes", "boxes")
_CATEGORIES = ("categories", "category", "category_id", "labels", "label", "class")

_MAX_SNIFFED = 1000
"""Lines in which `objects` are searched to recognize the format: images without objects may come first."""


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
    folders = dict.fromkeys(map(_first_folder, _names(file)))
    split_folders = [folder for folder in folders if is_split_name(folder)]
    names = name_splits(split_folders)
    files = {split: _split_file(file, partial(parse_image_folder, folder=folder)) for split, folder in names.items()}
    if files and len(split_folders) < len(folders):
        files[OTHERS] = _split_file(file, partial(parse_image_folder, not_in=frozenset(split_folders)))
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
    not_in: Collection[str] = (),
) -> Annotations | None:
    """Read the valid lines of a metadata.jsonl and report the others; ``None`` if nothing is valid.

    Boxes are x, y, width, height in pixels. Classes are names, or numbers whose names are those of ``class_label`` in
    the README.md of the data set. An image whose ``objects`` are null or missing has none.

    Args:
        file: the metadata.
        image_root: folder that file names are relative to.
        on_issue: called with each issue.
        progress: not called: the file is small.
        segmentations: keep the segmentations.
        folder: read only images in this folder; ``None`` for all.
        not_in: read only images that are not in these folders.
    """
    records = CocoRecords(file, on_issue, segmentations=segmentations)
    categories: set[str | int] = set()
    parsed: list[tuple[int, dict[str, Any]]] = []
    without_key: list[int] = []
    not_in_splits = 0
    for number, line in _lines(file, on_issue):
        name = line.get("file_name")
        top = _first_folder(name) if isinstance(name, str) else ""
        if (folder is not None and top != folder) or top in not_in:
            not_in_splits += folder is not None and not is_split_name(top)
            continue
        if "objects" not in line:
            without_key.append(number)
        objects = [] if line.get("objects") is None else _objects(line["objects"])
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
    if not_in_splits:
        observed = f"{not_in_splits} images are in no folder of a split; they are the split '{OTHERS}'"
        on_issue(Issue("left-out-images", str(file), observed, "all images in folders of splits", fatal=False))
    if without_key:
        observed = f"lines without 'objects' are images without objects ({len(without_key)}: line {without_key[0]}"
        observed += ", ...)" if len(without_key) > 1 else ")"
        on_issue(Issue("objects-missing", str(file), observed, "a list, which may be empty", fatal=False))
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


def _split_file(file: Path, read: Reader = parse_image_folder) -> SplitFile:
    return SplitFile(file, (file.parent,), file.parent, read, _names)


def _has_objects(file: Path) -> bool:
    def require_text(issue: Issue) -> None:
        if issue.kind == "not-annotations":
            raise_issue(issue)

    return any("objects" in line for _, line in _lines(file, require_text, _MAX_SNIFFED))


def _first_folder(name: str) -> str:
    """Return the first folder of the path of an image; empty if it is in none."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    return parts[0] if len(parts) > 1 else ""


def _names(file: Path) -> list[str]:
    return [str(line["file_name"]) for _, line in _lines(file, lambda issue: None) if "file_name" in line]


def _lines(file: Path, on_issue: IssueHandler, count: int | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number, from 1, and the object of each line that is not empty; ``count`` lines at most."""
    if not file.is_file():
        return
    with file.open("rb") as stream:
        for number, content in enumerate(stream, start=1):
            content = content.removeprefix(codecs.BOM_UTF8) if number == 1 else content
            if not content.strip():
                continue
            try:
                text = content.decode()
            except UnicodeDecodeError as error:
                # Decoded otherwise, different names of classes might become one.
                observed = f"line {number} is not UTF-8 ({error.reason})"
                on_issue(Issue("not-annotations", str(file), observed, "JSON lines in UTF-8"))
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
    named = _readme_names(file, on_issue)
    if names:
        ordered = list(dict.fromkeys([*(named.values() if set(names) <= set(named.values()) else ()), *names]))
        return {name: (number, name) for number, name in enumerate(ordered)}
    if numbers and not named:
        observed = "its classes are numbers, and no README.md beside it names them (`class_label`)"
        on_issue(Issue("unnamed-classes", str(file), observed, "names of classes", fatal=False))
    return {number: (number, named.get(number, str(number))) for number in dict.fromkeys([*sorted(named), *numbers])}


def _readme_names(file: Path, on_issue: IssueHandler) -> dict[int, str]:
    """Return the names of ``class_label`` in the YAML of the README of the data set, by number; empty without any.

    Those of the objects are taken: other features of an image, such as its scene, may have classes too.
    """
    for folder in (file.parent, file.parent.parent):
        readme = folder / "README.md"
        try:
            parts = readme.read_text(encoding="utf-8-sig").split("---", 2)
            header = yaml.safe_load(parts[1]) if len(parts) == 3 and not parts[0].strip() else None
        except (OSError, ValueError, yaml.YAMLError):
            continue
        labels = dict(_find_class_labels(header))
        of_objects = {path: names for path, names in labels.items() if "objects" in path} or labels
        of_classes = {path: names for path, names in of_objects.items() if path[-1] in _CATEGORIES} or of_objects
        candidates = list(of_classes.values())
        if any(names != candidates[0] for names in candidates):
            features = ", ".join(f"'{'.'.join(path)}'" for path in of_classes)
            observed = f"its features {features} have different names in `class_label`"
            on_issue(Issue("bad-record", str(readme), observed, "one `class_label`, in the feature `objects`"))
        elif candidates:
            return candidates[0]
    return {}


def _find_class_labels(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[int, str]]]:
    """Yield path of the feature and names of each class_label, a dict or a list, somewhere in a YAML value."""
    if isinstance(value, list):
        for inner in value:
            yield from _find_class_labels(inner, path)
    if not isinstance(value, Mapping):
        return
    path = (*path, str(value["name"])) if isinstance(value.get("name"), str) else path
    label = value.get("class_label")
    names = label.get("names") if isinstance(label, Mapping) else None
    if isinstance(names, list):
        yield path, {number: str(name) for number, name in enumerate(names)}
    elif isinstance(names, Mapping) and all(str(number).isdigit() for number in names):
        yield path, {int(number): str(name) for number, name in names.items()}
    for key, inner in value.items():
        if key != "class_label":
            yield from _find_class_labels(inner, path)
