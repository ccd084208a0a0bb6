"""Reader of COCO's instances format: JSON with images, annotations and categories."""

import math
import os
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drfpn.data.annotation_builder import AnnotationBuilder
from drfpn.data.annotations import Annotations
from drfpn.data.formats.json_stream import Consumer, NotAnObjectError, json_type, read_lists
from drfpn.data.progress import ProgressCallback
from drfpn.data.validation.issues import Issue, IssueHandler, raise_issue
from drfpn.utils.errors import UserError

MAX_PIXELS = 2**32
"""Limit of the counts of run-length encoding."""


def read_coco(json_file: str | os.PathLike[str], image_root: str | os.PathLike[str]) -> Annotations:
    """Read a COCO instances file.

    Category ids may have gaps and start anywhere; they become labels 1..K in the order of the ids. A missing
    ``area`` is width times height, a missing ``iscrowd`` is 0, and annotations whose id is missing or below 1
    get ids after the largest one (COCO's evaluation takes id 0 for "matched nothing"). Boxes are not validated
    here: see ``boxes.sanitize_boxes``.

    Args:
        json_file: the annotations.
        image_root: folder that the file names in it are relative to.

    Raises:
        UserError: the file is missing or is not COCO, or a record in it contradicts the others.
    """
    annotations = parse_coco(Path(json_file), Path(image_root), raise_issue)
    assert annotations is not None  # else raise_issue has raised
    return annotations


def parse_coco(
    json_file: Path,
    image_root: Path,
    on_issue: IssueHandler,
    progress: ProgressCallback | None = None,
    *,
    segmentations: bool = True,
) -> Annotations | None:
    """Read the valid records of a COCO instances file and report the others; ``None`` if nothing is valid.

    Args:
        json_file: the annotations.
        image_root: folder of the images.
        on_issue: called with each issue.
        progress: called with the MiB read so far and the total.
        segmentations: keep the segmentations.
    """
    source = str(json_file)
    categories, images = _Categories(source, on_issue), _Images(source, on_issue)
    objects = _Objects(source, on_issue, segmentations=segmentations)
    consumers = {"images": images.add, "annotations": objects.add, "categories": categories.add}
    if not _read(json_file, consumers, on_issue, progress):
        return None
    categories.finish()
    images.finish()
    if not categories.names or not images.images:
        return None
    category_ids = sorted(categories.names)
    return Annotations(
        root=image_root,
        source=json_file,
        classes=tuple(categories.names[category_id] for category_id in category_ids),
        category_ids=np.array(category_ids, dtype=np.int64),
        image_ids=np.array(list(images.images), dtype=np.int64),
        file_names=np.array([name for name, _ in images.images.values()], dtype=np.str_),
        sizes=np.array([size for _, size in images.images.values()], dtype=np.int64).reshape(-1, 2),
        **objects.arrays(list(images.images), category_ids),
    )


def _read(
    json_file: Path, consumers: Mapping[str, Consumer], on_issue: IssueHandler, progress: ProgressCallback | None
) -> bool:
    """Pass the records of a file to their consumers; return false after an issue of the whole file."""
    source = str(json_file)
    if not json_file.is_file():
        on_issue(Issue("annotations-missing", source, "there is no such file", "COCO annotations in JSON"))
        return False
    try:
        types = read_lists(json_file, consumers, progress)
    except NotAnObjectError as error:
        on_issue(Issue("not-coco", source, str(error), "an object with images, annotations and categories"))
        return False
    except UserError:
        raise
    except (ValueError, RecursionError) as error:
        on_issue(Issue("not-coco", source, f"it is not JSON ({error})", "COCO annotations in JSON"))
        return False
    if json_file.name.startswith("image_info_"):
        types.setdefault("annotations", "list")  # of images whose annotations are not public
    missing = [key for key in consumers if types.get(key) != "list"]
    if missing:
        observed = f"it has no list '{missing[0]}' (its keys are {_some(types)})"
        on_issue(Issue("not-coco", source, observed, "COCO's lists images, annotations and categories"))
    return not missing


class _Categories:
    """Names of categories by id."""

    def __init__(self, source: str, on_issue: IssueHandler) -> None:
        self.names: dict[int, str] = {}
        self._source = source
        self._on_issue = on_issue
        self._count = 0

    def add(self, index: int, record: Any) -> None:
        """Add a record of the list."""
        self._count += 1
        location = f"{self._source}: category {index} of the list"
        record = record if isinstance(record, dict) else {}
        category_id, name = _integer(record.get("id")), record.get("name")
        if category_id is None or not isinstance(name, str):
            observed = f"its id is {_short(record.get('id'))} and its name {_short(name)}"
            self._on_issue(Issue("bad-record", location, observed, "an integer and a string"))
        elif category_id in self.names:
            observed = f"id {category_id} is taken by '{self.names[category_id]}' already"
            self._on_issue(Issue("duplicate-category-id", location, observed, "one id for each category"))
        else:
            self.names[category_id] = name

    def finish(self) -> None:
        """Report an empty list."""
        if not self._count:
            self._on_issue(Issue("no-categories", self._source, "its list 'categories' is empty", "at least one class"))


class _Images:
    """File names and (height, width) of images by id, in the order of the file."""

    def __init__(self, source: str, on_issue: IssueHandler) -> None:
        self.images: dict[int, tuple[str, tuple[int, int]]] = {}
        self._source = source
        self._on_issue = on_issue
        self._count = 0

    def add(self, index: int, record: Any) -> None:
        """Add a record of the list."""
        self._count += 1
        record = record if isinstance(record, dict) else {}
        image_id, name = _integer(record.get("id")), record.get("file_name")
        if image_id is None or not isinstance(name, str) or not name:
            location = f"{self._source}: image {index} of the list"
            observed = f"its id is {_short(record.get('id'))} and its file_name {_short(name)}"
            self._on_issue(Issue("bad-record", location, observed, "an integer and a string"))
            return
        if image_id in self.images:
            observed = f"id {image_id} belongs to '{self.images[image_id][0]}' already"
            location = f"{self._source}: image '{name}'"
            self._on_issue(Issue("duplicate-image-id", location, observed, "one id for each image"))
            return
        height, width = (_integer(record.get(side)) or 0 for side in ("height", "width"))
        if height > 0 and width > 0 and height * width >= MAX_PIXELS:
            location, observed = f"{self._source}: image '{name}'", f"its size is {width} x {height} px"
            self._on_issue(Issue("bad-record", location, observed, f"less than {MAX_PIXELS:.2g} pixels"))
        else:
            self.images[image_id] = name, ((height, width) if height > 0 and width > 0 else (0, 0))

    def finish(self) -> None:
        """Report an empty list."""
        if not self._count:
            self._on_issue(Issue("no-images", self._source, "its list 'images' is empty", "at least one image"))


class _Objects:
    """Valid annotations. Images and categories may follow in the file, so ids are resolved at the end."""

    def __init__(self, source: str, on_issue: IssueHandler, *, segmentations: bool) -> None:
        self._source = source
        self._on_issue = on_issue
        self._objects = AnnotationBuilder(segmentations=segmentations)
        self._indices = array("q")  # in the list

    def add(self, index: int, record: Any) -> None:
        """Add a record of the list."""
        issue = _record_issue(index, record, self._source)
        if issue is not None:
            self._on_issue(issue)
            return
        x, y, width, height = map(_float, record["bbox"])
        area = record.get("area")
        self._indices.append(index)
        self._objects.add(
            image_index=int(record["image_id"]),  # replaced by its index in `arrays`
            box=[x, y, width, height],
            label=int(record["category_id"]),
            area=width * height if area is None else _float(area),
            crowd=bool(record.get("iscrowd")),
            annotation_id=_integer(record.get("id")) or 0,
            segmentation=record.get("segmentation") or None,
        )

    def arrays(self, image_ids: list[int], category_ids: list[int]) -> dict[str, Any]:
        """Return ``AnnotationBuilder.arrays`` of the annotations with known image and category and with a unique id.

        Args:
            image_ids: ids of the images in the file.
            category_ids: ids of the categories in the file, sorted.
        """
        image_indices, unknown_image = _index_of(self._objects.image_indices, image_ids)
        category_indices, unknown_category = _index_of(self._objects.labels, category_ids)
        ids = self._objects.annotation_ids
        repeated = np.ones(len(ids), dtype=np.bool_)
        repeated[np.unique(ids, return_index=True)[1]] = False
        repeated &= ids != 0  # 0: without an id
        for i in np.flatnonzero(unknown_image | unknown_category | repeated).tolist():
            location = f"{self._source}: annotation {ids[i] or f'{self._indices[i]} of the list'}"
            if unknown_image[i]:
                observed = f"its image_id is {self._objects.image_indices[i]}"
                expected = f"the id of one of the {len(image_ids)} images in the file"
                self._on_issue(Issue("unknown-image", location, observed, expected))
            elif unknown_category[i]:
                observed = f"its category_id is {self._objects.labels[i]}"
                expected = f"an id in the list 'categories' ({_some(category_ids)})"
                self._on_issue(Issue("unknown-category", location, observed, expected))
            else:
                location = f"{self._source}: annotation {self._indices[i]} of the list"
                observed = f"id {ids[i]} belongs to an earlier annotation"
                self._on_issue(Issue("duplicate-annotation-id", location, observed, "one id for each annotation"))
        keep = ~(unknown_image | unknown_category | repeated)
        labels = category_indices + 1
        return self._objects.arrays(len(image_ids), image_indices=image_indices, labels=labels, keep=keep)


def _index_of(ids: NDArray[np.int64], known: list[int]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the index of each id in ``known``, and a mask of those that are not in it."""
    known_ids = np.array(known, dtype=np.int64)
    order = np.argsort(known_ids)
    position = np.searchsorted(known_ids, ids, sorter=order).clip(max=len(known) - 1)
    index = order[position].astype(np.int64)
    return index, known_ids[index] != ids


def _record_issue(index: int, record: Any, source: str) -> Issue | None:
    """Return the issue of one annotation by itself, if it has any."""
    if not isinstance(record, dict):
        location = f"{source}: annotation {index} of the list"
        return Issue("bad-record", location, f"it is a JSON {json_type(record)}", "an object")
    box, area = record.get("bbox"), record.get("area")
    observed = expected = ""
    for key in ("id", "image_id", "category_id"):
        value = record.get(key)
        if type(value) is not int and (key != "id" or value is not None) and _integer(value) is None:
            observed, expected = f"its {key} is {_short(value)}", "an integer"
            break
        if type(value) is int and not -(2**63) <= value < 2**63:
            observed, expected = f"its {key} is {_short(value)}", "an integer of 64 bits"
            break
    else:
        if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
            observed, expected = f"its bbox is {_short(box)}", "four numbers [x, y, width, height]"
        elif area is not None and not _is_number(area):
            observed, expected = f"its area is {_short(area)}", "a number"
        elif record.get("iscrowd") not in (None, 0, 1):
            observed, expected = f"its iscrowd is {_short(record['iscrowd'])}", "0 or 1"
    if not observed:
        return None
    location = f"{source}: annotation {record.get('id', f'{index} of the list')!s:.60}"
    return Issue("bad-record", location, observed, expected)


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
