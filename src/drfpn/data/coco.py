"""Reading COCO's instances format."""

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from drfpn.data.annotations import Annotations
from drfpn.data.objects import ObjectLists
from drfpn.data.problems import Problem, Report, raise_problem

_LISTS = ("images", "annotations", "categories")

Record = dict[str, Any]


def read_coco(json_file: str | os.PathLike[str], image_root: str | os.PathLike[str]) -> Annotations:
    """Read a COCO instances file.

    Category ids may have gaps and start anywhere; they become labels 1..K in the order of the ids. A missing
    ``area`` is width times height, a missing ``iscrowd`` is 0, and annotations whose id is missing or below 1
    get ids after the largest one (COCO's evaluation takes id 0 for "matched nothing"). Boxes are not judged
    here: see ``boxes.clean``.

    Args:
        json_file: The annotations.
        image_root: The folder that the file names in it are relative to.

    Raises:
        UserError: The file is missing or is not COCO, or a record in it contradicts the others.
    """
    annotations = parse_coco(Path(json_file), Path(image_root), raise_problem)
    assert annotations is not None  # the report raises where there is nothing to return
    return annotations


def parse_coco(json_file: Path, image_root: Path, report: Report) -> Annotations | None:
    """Read what is sound in a COCO instances file and report the rest; ``None`` if nothing is."""
    data = _load(json_file, report)
    if data is None:
        return None
    source = str(json_file)
    categories = _categories(data["categories"], source, report)
    images = _images(data["images"], source, report)
    if not categories or not images:
        return None
    category_ids = sorted(categories)
    objects = _objects(
        data["annotations"],
        {image_id: index for index, image_id in enumerate(images)},
        {category_id: label for label, category_id in enumerate(category_ids, start=1)},
        source,
        report,
    )
    return Annotations(
        root=image_root,
        source=json_file,
        classes=tuple(categories[category_id] for category_id in category_ids),
        category_ids=np.array(category_ids, dtype=np.int64),
        image_ids=np.array(list(images), dtype=np.int64),
        file_names=np.array([name for name, _ in images.values()], dtype=np.str_),
        sizes=np.array([size for _, size in images.values()], dtype=np.int64).reshape(-1, 2),
        **objects.arrays(len(images)),
    )


def _load(json_file: Path, report: Report) -> Record | None:
    """Return the dict of three lists, or ``None`` after a report."""
    where = str(json_file)
    if not json_file.is_file():
        report(Problem("annotations-missing", where, "there is no such file", "COCO annotations in JSON"))
        return None
    try:
        data = json.loads(json_file.read_bytes())
    except (ValueError, RecursionError) as error:
        report(Problem("not-coco", where, f"it is not JSON ({error})", "COCO annotations in JSON"))
        return None
    if not isinstance(data, dict):
        found = f"it holds a JSON {_json_type(data)}"
        report(Problem("not-coco", where, found, "an object with images, annotations and categories"))
        return None
    if json_file.name.startswith("image_info_"):
        data.setdefault("annotations", [])  # of images whose objects are not public
    missing = [key for key in _LISTS if not isinstance(data.get(key), list)]
    if missing:
        found = f"it has no list '{missing[0]}' (its keys are {_some(data)})"
        report(Problem("not-coco", where, found, "COCO's lists images, annotations and categories"))
        return None
    return data


def _categories(records: list[Any], source: str, report: Report) -> dict[int, str]:
    """Return name by id."""
    names: dict[int, str] = {}
    for index, record in enumerate(records):
        where = f"{source}: category {index} of the list"
        record = record if isinstance(record, dict) else {}
        category_id, name = _integer(record.get("id")), record.get("name")
        if category_id is None or not isinstance(name, str):
            found = f"its id is {record.get('id')!r} and its name {name!r}"
            report(Problem("bad-record", where, found, "an integer and a string"))
        elif category_id in names:
            found = f"id {category_id} is taken by '{names[category_id]}' already"
            report(Problem("duplicate-category-id", where, found, "one id for each category"))
        else:
            names[category_id] = name
    if not records:
        report(Problem("no-categories", source, "its list 'categories' is empty", "at least one class"))
    return names


def _images(records: list[Any], source: str, report: Report) -> dict[int, tuple[str, tuple[int, int]]]:
    """Return file name and (height, width) by image id, in the order of the file."""
    images: dict[int, tuple[str, tuple[int, int]]] = {}
    for index, record in enumerate(records):
        record = record if isinstance(record, dict) else {}
        image_id, name = _integer(record.get("id")), record.get("file_name")
        if image_id is None or not isinstance(name, str) or not name:
            where = f"{source}: image {index} of the list"
            found = f"its id is {record.get('id')!r} and its file_name {name!r}"
            report(Problem("bad-record", where, found, "an integer and a string"))
        elif image_id in images:
            found = f"id {image_id} belongs to '{images[image_id][0]}' already"
            expected = "one id for each image"
            report(Problem("duplicate-image-id", f"{source}: image '{name}'", found, expected))
        else:
            height, width = (_integer(record.get(side)) or 0 for side in ("height", "width"))
            images[image_id] = name, ((height, width) if height > 0 and width > 0 else (0, 0))
    if not records:
        report(Problem("no-images", source, "its list 'images' is empty", "at least one image"))
    return images


def _objects(
    records: list[Any], images: dict[int, int], labels: dict[int, int], source: str, report: Report
) -> ObjectLists:
    """Return the sound annotations.

    Args:
        records: The list ``annotations``.
        images: Index of each image id.
        labels: Label of each category id.
        source: The file, for messages.
        report: Receives what is wrong.
    """
    objects = ObjectLists()
    seen: set[int] = set()
    for index, record in enumerate(records):
        problem = _record_problem(index, record, images, labels, source)
        if problem is not None:
            report(problem)
            continue
        annotation_id = _integer(record.get("id"))
        if annotation_id is not None and annotation_id in seen:
            where = f"{source}: annotation {index} of the list"
            found = f"id {annotation_id} belongs to an earlier annotation"
            report(Problem("duplicate-annotation-id", where, found, "one id for each annotation"))
            continue
        if annotation_id is not None:
            seen.add(annotation_id)
        box = [_float(value) for value in record["bbox"]]
        area = record.get("area")
        objects.add(
            image=images[record["image_id"]],
            box=box,
            label=labels[record["category_id"]],
            area=box[2] * box[3] if area is None else _float(area),
            crowd=bool(record.get("iscrowd")),
            annotation_id=annotation_id or 0,
            segmentation=record.get("segmentation") or None,
        )
    return objects


def _record_problem(
    index: int, record: Any, images: dict[int, int], labels: dict[int, int], source: str
) -> Problem | None:
    """Return what is wrong with one annotation, if anything is."""
    if not isinstance(record, dict):
        where = f"{source}: annotation {index} of the list"
        return Problem("bad-record", where, f"it is a JSON {_json_type(record)}", "an object")
    where = f"{source}: annotation {record.get('id', f'{index} of the list')}"
    for key in ("id", "image_id", "category_id"):
        value = record.get(key)
        if _integer(value) is None and (key != "id" or value is not None):
            return Problem("bad-record", where, f"its {key} is {value!r}", "an integer")
    if record["image_id"] not in images:
        found = f"its image_id is {record['image_id']}"
        return Problem("unknown-image", where, found, f"the id of one of the {len(images)} images in the file")
    if record["category_id"] not in labels:
        found = f"its category_id is {record['category_id']}"
        return Problem("unknown-category", where, found, f"an id in the list 'categories' ({_some(labels)})")
    box = record.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        return Problem("bad-record", where, f"its bbox is {_short(box)}", "four numbers [x, y, width, height]")
    area = record.get("area")
    if area is not None and not _is_number(area):
        return Problem("bad-record", where, f"its area is {_short(area)}", "a number")
    if record.get("iscrowd") not in (None, 0, 1):
        return Problem("bad-record", where, f"its iscrowd is {_short(record['iscrowd'])}", "0 or 1")
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # JSON has integers of any length
        return math.inf


def _integer(value: Any) -> int | None:
    """Return a whole number that fits 64 bits as an int (some tools write 17.0), else ``None``."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not -(2**63) <= value < 2**63:
        return None
    return value


def _json_type(value: Any) -> str:
    names = {list: "list", str: "string", bool: "boolean", type(None): "null", dict: "object"}
    return names.get(type(value), "number")


def _some(values: Any, count: int = 8) -> str:
    names = [str(value) for value in list(values)[:count]]
    return ", ".join(names) + (", ..." if len(values) > count else "") if names else "none"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
