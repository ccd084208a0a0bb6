"""Reading COCO's instances format."""

import math
import os
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drfpn.data.annotation_builder import ObjectLists
from drfpn.data.annotations import Annotations
from drfpn.data.formats.json_stream import Consumer, NotAnObject, json_type, read_lists
from drfpn.data.validation.problems import Problem, Progress, Report, raise_problem
from drfpn.utils.errors import UserError

MOST_PIXELS = 2**32
"""What run-length encoding can count."""


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


def parse_coco(
    json_file: Path,
    image_root: Path,
    report: Report,
    progress: Progress | None = None,
    *,
    segmentations: bool = True,
) -> Annotations | None:
    """Read what is sound in a COCO instances file and report the rest; ``None`` if nothing is.

    Args:
        json_file: The annotations.
        image_root: The folder of the images.
        report: Receives what is wrong.
        progress: Is called with the MiB read so far, and of all.
        segmentations: Whether they are kept.
    """
    source = str(json_file)
    categories, images = _Categories(source, report), _Images(source, report)
    records = _Records(source, report, segmentations=segmentations)
    consumers = {"images": images.add, "annotations": records.add, "categories": categories.add}
    if not _read(json_file, consumers, report, progress):
        return None
    categories.end()
    images.end()
    if not categories.names or not images.found:
        return None
    category_ids = sorted(categories.names)
    return Annotations(
        root=image_root,
        source=json_file,
        classes=tuple(categories.names[category_id] for category_id in category_ids),
        category_ids=np.array(category_ids, dtype=np.int64),
        image_ids=np.array(list(images.found), dtype=np.int64),
        file_names=np.array([name for name, _ in images.found.values()], dtype=np.str_),
        sizes=np.array([size for _, size in images.found.values()], dtype=np.int64).reshape(-1, 2),
        **records.arrays(list(images.found), category_ids),
    )


def _read(json_file: Path, consumers: Mapping[str, Consumer], report: Report, progress: Progress | None) -> bool:
    """Hand on the records of a file; false after a report of what is wrong with it as a whole."""
    where = str(json_file)
    if not json_file.is_file():
        report(Problem("annotations-missing", where, "there is no such file", "COCO annotations in JSON"))
        return False
    try:
        kinds = read_lists(json_file, consumers, progress)
    except NotAnObject as error:
        report(Problem("not-coco", where, str(error), "an object with images, annotations and categories"))
        return False
    except UserError:
        raise
    except (ValueError, RecursionError) as error:
        report(Problem("not-coco", where, f"it is not JSON ({error})", "COCO annotations in JSON"))
        return False
    if json_file.name.startswith("image_info_"):
        kinds.setdefault("annotations", "list")  # of images whose objects are not public
    missing = [key for key in consumers if kinds.get(key) != "list"]
    if missing:
        found = f"it has no list '{missing[0]}' (its keys are {_some(kinds)})"
        report(Problem("not-coco", where, found, "COCO's lists images, annotations and categories"))
    return not missing


class _Categories:
    """Name by id."""

    def __init__(self, source: str, report: Report) -> None:
        self.names: dict[int, str] = {}
        self._source = source
        self._report = report
        self._count = 0

    def add(self, index: int, record: Any) -> None:
        """Take a record of the list."""
        self._count += 1
        where = f"{self._source}: category {index} of the list"
        record = record if isinstance(record, dict) else {}
        category_id, name = _integer(record.get("id")), record.get("name")
        if category_id is None or not isinstance(name, str):
            found = f"its id is {_short(record.get('id'))} and its name {_short(name)}"
            self._report(Problem("bad-record", where, found, "an integer and a string"))
        elif category_id in self.names:
            found = f"id {category_id} is taken by '{self.names[category_id]}' already"
            self._report(Problem("duplicate-category-id", where, found, "one id for each category"))
        else:
            self.names[category_id] = name

    def end(self) -> None:
        """Report if there was none."""
        if not self._count:
            self._report(Problem("no-categories", self._source, "its list 'categories' is empty", "at least one class"))


class _Images:
    """File name and (height, width) by image id, in the order of the file."""

    def __init__(self, source: str, report: Report) -> None:
        self.found: dict[int, tuple[str, tuple[int, int]]] = {}
        self._source = source
        self._report = report
        self._count = 0

    def add(self, index: int, record: Any) -> None:
        """Take a record of the list."""
        self._count += 1
        record = record if isinstance(record, dict) else {}
        image_id, name = _integer(record.get("id")), record.get("file_name")
        if image_id is None or not isinstance(name, str) or not name:
            where = f"{self._source}: image {index} of the list"
            found = f"its id is {_short(record.get('id'))} and its file_name {_short(name)}"
            self._report(Problem("bad-record", where, found, "an integer and a string"))
            return
        if image_id in self.found:
            found = f"id {image_id} belongs to '{self.found[image_id][0]}' already"
            where = f"{self._source}: image '{name}'"
            self._report(Problem("duplicate-image-id", where, found, "one id for each image"))
            return
        height, width = (_integer(record.get(side)) or 0 for side in ("height", "width"))
        if height > 0 and width > 0 and height * width >= MOST_PIXELS:
            where, found = f"{self._source}: image '{name}'", f"its size is {width} x {height} px"
            self._report(Problem("bad-record", where, found, f"less than {MOST_PIXELS:.2g} pixels"))
        else:
            self.found[image_id] = name, ((height, width) if height > 0 and width > 0 else (0, 0))

    def end(self) -> None:
        """Report if there was none."""
        if not self._count:
            self._report(Problem("no-images", self._source, "its list 'images' is empty", "at least one image"))


class _Records:
    """Sound annotations. Images and categories may come later in the file, so ids are resolved in the end."""

    def __init__(self, source: str, report: Report, *, segmentations: bool) -> None:
        self._source = source
        self._report = report
        self._objects = ObjectLists(segmentations=segmentations)
        self._places = array("q")  # in the list

    def add(self, index: int, record: Any) -> None:
        """Take a record of the list."""
        problem = _record_problem(index, record, self._source)
        if problem is not None:
            self._report(problem)
            return
        x, y, width, height = map(_float, record["bbox"])
        area = record.get("area")
        self._places.append(index)
        self._objects.add(
            image=int(record["image_id"]),
            box=[x, y, width, height],
            label=int(record["category_id"]),
            area=width * height if area is None else _float(area),
            crowd=bool(record.get("iscrowd")),
            annotation_id=_integer(record.get("id")) or 0,
            segmentation=record.get("segmentation") or None,
        )

    def arrays(self, image_ids: list[int], category_ids: list[int]) -> dict[str, Any]:
        """Return what ``ObjectLists`` does of the annotations whose ids are there and their own."""
        images, no_image = _find(self._objects.images, image_ids)
        labels, no_category = _find(self._objects.labels, category_ids)
        ids = self._objects.annotation_ids
        repeated = np.ones(len(ids), dtype=np.bool_)
        repeated[np.unique(ids, return_index=True)[1]] = False
        repeated &= ids != 0  # of those without one
        for place in np.flatnonzero(no_image | no_category | repeated).tolist():
            where = f"{self._source}: annotation {ids[place] or f'{self._places[place]} of the list'}"
            if no_image[place]:
                found = f"its image_id is {self._objects.images[place]}"
                expected = f"the id of one of the {len(image_ids)} images in the file"
                self._report(Problem("unknown-image", where, found, expected))
            elif no_category[place]:
                found = f"its category_id is {self._objects.labels[place]}"
                expected = f"an id in the list 'categories' ({_some(category_ids)})"
                self._report(Problem("unknown-category", where, found, expected))
            else:
                where = f"{self._source}: annotation {self._places[place]} of the list"
                found = f"id {ids[place]} belongs to an earlier annotation"
                self._report(Problem("duplicate-annotation-id", where, found, "one id for each annotation"))
        keep = ~(no_image | no_category | repeated)
        return self._objects.arrays(len(image_ids), images=images, labels=labels + 1, keep=keep)


def _find(ids: NDArray[np.int64], known: list[int]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the index of each id among those ``known``, and whether it is not among them."""
    known_ids = np.array(known, dtype=np.int64)
    order = np.argsort(known_ids)
    place = np.searchsorted(known_ids, ids, sorter=order).clip(max=len(known) - 1)
    index = order[place].astype(np.int64)
    return index, known_ids[index] != ids


def _record_problem(index: int, record: Any, source: str) -> Problem | None:
    """Return what is wrong with one annotation by itself, if anything is."""
    if not isinstance(record, dict):
        where = f"{source}: annotation {index} of the list"
        return Problem("bad-record", where, f"it is a JSON {json_type(record)}", "an object")
    box, area = record.get("bbox"), record.get("area")
    found = expected = ""
    for key in ("id", "image_id", "category_id"):
        value = record.get(key)
        if type(value) is not int and (key != "id" or value is not None) and _integer(value) is None:
            found, expected = f"its {key} is {_short(value)}", "an integer"
            break
        if type(value) is int and not -(2**63) <= value < 2**63:
            found, expected = f"its {key} is {_short(value)}", "an integer of 64 bits"
            break
    else:
        if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
            found, expected = f"its bbox is {_short(box)}", "four numbers [x, y, width, height]"
        elif area is not None and not _is_number(area):
            found, expected = f"its area is {_short(area)}", "a number"
        elif record.get("iscrowd") not in (None, 0, 1):
            found, expected = f"its iscrowd is {_short(record['iscrowd'])}", "0 or 1"
    if not found:
        return None
    return Problem(
        "bad-record", f"{source}: annotation {record.get('id', f'{index} of the list')!s:.60}", found, expected
    )


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


def _some(values: Any, count: int = 8) -> str:
    names = [str(value) for value in list(values)[:count]]
    return ", ".join(names) + (", ..." if len(values) > count else "") if names else "none"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
