"""``CocoRecords``: collects COCO's records of categories, images and annotations into ``Annotations``."""

from array import array
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drfpn.data.annotation_builder import AnnotationBuilder
from drfpn.data.annotations import Annotations
from drfpn.data.class_matching import merge_same_names
from drfpn.data.formats.coco_boxes import find_contradiction, mask_box
from drfpn.data.formats.coco_values import (
    IdParser,
    has_rotation,
    integer,
    is_implausible_area,
    is_number,
    object_area,
    short,
    some,
    to_float,
    to_number,
)
from drfpn.data.formats.image_names import ImageFinder, file_key
from drfpn.data.formats.json_stream import json_type
from drfpn.data.validation.issues import Issue, IssueHandler

MAX_PIXELS = 2**32
"""Limit of the counts of run-length encoding."""

_REPEATED_FROM = 0.005
"""Fraction of objects with the box of another one from which there is an issue."""

_MAX_DECODED = 2000
"""Annotations, the first ones, of which RLE is compared with the box: decoding it takes time."""

_SAME_AREA_FROM = 10
"""Number of objects from which one area for all of them is a placeholder."""


class CocoRecords:
    """Valid records of a file, in any order. Invalid ones are reported.

    Args:
        source: the file.
        on_issue: called with each issue.
        segmentations: keep the segmentations.
    """

    def __init__(self, source: Path, on_issue: IssueHandler, *, segmentations: bool = True) -> None:
        self._source = source
        self._on_issue = on_issue
        self._categories = _Categories(str(source), on_issue)
        self._images = _Images(str(source), on_issue)
        self._objects = _Objects(str(source), on_issue, segmentations=segmentations)
        self.add_category = self._categories.add
        """Called with the index in its list and the value of a record; so are the other two."""
        self.add_image = self._images.add
        self.add_annotation = self._objects.add

    def annotations(self, image_root: Path) -> Annotations | None:
        """Return the annotations; ``None`` if nothing is valid.

        Args:
            image_root: folder of the images.
        """
        self._categories.finish()
        self._images.finish()
        if not self._categories.names or not self._images.images:
            return None
        category_ids = sorted(self._categories.names)
        annotations = Annotations(
            root=image_root,
            source=self._source,
            classes=tuple(self._categories.names[category_id] for category_id in category_ids),
            category_ids=np.array(category_ids, dtype=np.int64),
            image_ids=np.array(list(self._images.images), dtype=np.int64),
            file_names=np.array([name for name, _ in self._images.images.values()], dtype=np.str_),
            sizes=np.array([size for _, size in self._images.images.values()], dtype=np.int64).reshape(-1, 2),
            **self._objects.arrays(list(self._images.images), category_ids),
        )
        annotations = find_images(merge_same_names(annotations, self._on_issue), self._on_issue)
        for issue in (*shared_file_issues(annotations), *repeated_box_issues(annotations)):
            self._on_issue(issue)
        return annotations


def find_images(annotations: Annotations, on_issue: IssueHandler) -> Annotations:
    """Return annotations with the names of the files that ``ImageFinder`` finds for those that do not exist.

    Args:
        annotations: of a split.
        on_issue: called with each ambiguous name, and once about those that were found under another one.
    """
    finder = ImageFinder(annotations.root)
    names = annotations.file_names.tolist()
    changed: dict[str, str] = {}
    missing = [index for index, name in enumerate(names) if not finder.exists(name)]
    matches_of = {index: finder.find(names[index]) for index in missing}
    if not all(matches_of.values()):
        used = {name for index, name in enumerate(names) if index not in matches_of}
        used |= {match for matches in matches_of.values() for match in matches}
        elsewhere = finder.find_bases([names[index] for index in missing if not matches_of[index]], used)
        matches_of |= {index: elsewhere[names[index]] for index in missing if names[index] in elsewhere}
    for index, matches in matches_of.items():
        name = names[index]
        if len(matches) > 1:
            location = f"{annotations.source}: image '{name}' (id {annotations.image_ids[index]})"
            observed = f"several files in {annotations.root} may be meant ({some(matches, 3)})"
            on_issue(Issue("image-ambiguous", location, observed, "the name of one file"))
        elif matches:
            names[index] = changed[name] = matches[0]
    if not changed:
        return annotations
    first, file = next(iter(changed.items()))
    count = f"{len(changed)} of {len(names)} images have" if len(changed) > 1 else f"1 of {len(names)} images has"
    observed = f"{count} another name on disk: '{first}' is '{file}' in {annotations.root}"
    on_issue(Issue("image-renamed", str(annotations.source), observed, "the names on disk", fatal=False))
    return replace(annotations, file_names=np.array(names, dtype=np.str_))


def shared_file_issues(annotations: Annotations) -> Iterable[Issue]:
    """Yield an issue for each image whose file is that of an earlier one with other objects."""
    first: dict[str, int] = {}
    for index, name in enumerate(annotations.file_names.tolist()):
        other = first.setdefault(file_key(annotations.root, name), index)
        if other == index or _have_same_objects(annotations, other, index):
            continue
        ids = annotations.image_ids[[other, index]].tolist()
        observed = f"images {ids[0]} and {ids[1]} are this file, each with other objects"
        yield Issue("shared-image-file", f"{annotations.source}: image '{name}'", observed, "all objects in one image")


def repeated_box_issues(annotations: Annotations) -> Iterable[Issue]:
    """Yield an issue if objects have the very box of an earlier one in their image, of the same class or another.

    Large data sets have a few of them by chance: fewer than 0.5 % of all are none.
    """
    rows = np.column_stack([annotations.image_indices(), annotations.boxes])[~annotations.crowd]
    indices = np.flatnonzero(~annotations.crowd)
    rows, indices = rows[np.isfinite(rows).all(axis=1)], indices[np.isfinite(rows).all(axis=1)]
    _, first, inverse = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    originals = first[inverse.reshape(-1)]
    repeated = np.flatnonzero(originals != np.arange(len(rows)))
    labels = annotations.labels[indices]
    same = labels[repeated] == labels[originals[repeated]]
    for these, kind, observed, expected in (
        (repeated[same], "repeated-object", "have the box and the class of another one", "each object once"),
        (repeated[~same], "two-classes", "have the box of another one of another class", "one class for each object"),
    ):
        if len(these) and len(these) >= _REPEATED_FROM * len(rows):
            name = annotations.file_names[annotations.image_indices()[indices[these[0]]]]
            ids = annotations.annotation_ids[indices[[originals[these[0]], these[0]]]].tolist()
            text = f"{len(these)} of {len(rows)} objects {observed} (annotations {ids[0]} and {ids[1]} in '{name}')"
            yield Issue(kind, str(annotations.source), text, expected, fatal=False)


def _have_same_objects(annotations: Annotations, one: int, other: int) -> bool:
    a, b = annotations.object_slice(one), annotations.object_slice(other)
    arrays = annotations.boxes, annotations.labels, annotations.crowd
    return all(np.array_equal(array[a], array[b], equal_nan=array.dtype == np.float64) for array in arrays)


class _Categories:
    """Names of categories by id."""

    def __init__(self, source: str, on_issue: IssueHandler) -> None:
        self.names: dict[int, str] = {}
        self._source = source
        self._on_issue = on_issue
        self._count = 0
        self._parse_id = IdParser()

    def add(self, index: int, record: Any) -> None:
        """Add a record of the list."""
        self._count += 1
        location = f"{self._source}: category {index} of the list"
        record = record if isinstance(record, dict) else {}
        category_id, name = self._parse_id(record.get("id")), record.get("name")
        if category_id is None or not isinstance(name, str):
            observed = f"its id is {short(record.get('id'))} and its name {short(name)}"
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
        self._parse_id = IdParser()

    def add(self, index: int, record: Any) -> None:
        """Add a record of the list."""
        self._count += 1
        record = record if isinstance(record, dict) else {}
        image_id, name = self._parse_id(record.get("id")), record.get("file_name")
        if image_id is None or not isinstance(name, str) or not name:
            location = f"{self._source}: image {index} of the list"
            observed = f"its id is {short(record.get('id'))} and its file_name {short(name)}"
            self._on_issue(Issue("bad-record", location, observed, "an integer and a string"))
            return
        if image_id in self.images:
            observed = f"id {image_id} belongs to '{self.images[image_id][0]}' already"
            location = f"{self._source}: image '{name}'"
            self._on_issue(Issue("duplicate-image-id", location, observed, "one id for each image"))
            return
        height, width = (integer(record.get(side)) or 0 for side in ("height", "width"))
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
        self._parse_id, self._parse_image_id, self._parse_category_id = IdParser(), IdParser(), IdParser()
        self._any_mask = False
        self._implausible: list[str] = []
        self._rotated: list[str] = []
        self._contradicting: list[str] = []

    def add(self, index: int, record: Any) -> None:
        """Add a record of the list."""
        if not isinstance(record, dict):
            location = f"{self._source}: annotation {index} of the list"
            self._on_issue(Issue("bad-record", location, f"it is a JSON {json_type(record)}", "an object"))
            return
        record = with_numbers(record)
        annotation_id = 0 if record.get("id") is None else self._parse_id(record["id"])
        image_id = self._parse_image_id(record.get("image_id"))
        category_id = self._parse_category_id(record.get("category_id"))
        ids = {"id": annotation_id, "image_id": image_id, "category_id": category_id}
        fault = _find_fault(record, ids)
        if fault is not None or annotation_id is None or image_id is None or category_id is None:
            location = f"{self._source}: annotation {_name(record, index)}"
            self._on_issue(Issue("bad-record", location, *(fault or ("", ""))))
            return
        box = [to_float(value) for value in record["bbox"]]
        segmentation = record.get("segmentation") or None
        crowd = bool(record.get("iscrowd"))
        is_compared = not crowd and (isinstance(segmentation, list) or index < _MAX_DECODED)
        if segmentation and is_compared and (observed := find_contradiction(box, segmentation)) is not None:
            self._contradicting.append(f"that of annotation {_name(record, index)} {observed}")
        self._any_mask |= segmentation is not None
        self._indices.append(index)
        if has_rotation(record):
            self._rotated.append(f"annotation {_name(record, index)}: {record['attributes']['rotation']:g} degrees")
        self._objects.add(
            image_index=image_id,  # replaced by its index in `arrays`
            box=box,
            label=category_id,
            area=self._area(index, record, box, segmentation),
            crowd=crowd,
            annotation_id=annotation_id,
            segmentation=segmentation,
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
                expected = f"an id in the list 'categories' ({some(category_ids)})"
                self._on_issue(Issue("unknown-category", location, observed, expected))
            else:
                location = f"{self._source}: annotation {self._indices[i]} of the list"
                observed = f"id {ids[i]} belongs to an earlier annotation"
                self._on_issue(Issue("duplicate-annotation-id", location, observed, "one id for each annotation"))
        keep = ~(unknown_image | unknown_category | repeated)
        arrays = self._objects.arrays(
            len(image_ids), image_indices=image_indices, labels=category_indices + 1, keep=keep
        )
        return self._replace_constant_area(arrays)

    def _area(self, index: int, record: dict[str, Any], box: list[float], segmentation: Any) -> float:
        """Return the area of an object; that of its mask or box if none is given or it is implausible."""
        if record.get("area") is None:
            return box[2] * box[3]
        area = to_float(record["area"])
        if not is_implausible_area(area, box[2], box[3], has_mask=segmentation is not None):
            return area
        actual = object_area(box, segmentation)
        if area == 1 and actual < 2:
            return area
        self._implausible.append(f"annotation {_name(record, index)} has {area:g} px where {actual:g} px are covered")
        return actual

    def _replace_constant_area(self, arrays: dict[str, Any]) -> dict[str, Any]:
        """Replace areas that are one number for boxes of all sizes; report replaced areas and rotated boxes."""
        areas, boxes = arrays["areas"], arrays["boxes"]
        box_areas = boxes[:, 2] * boxes[:, 3]
        if not self._any_mask and len(areas) >= _SAME_AREA_FROM and areas.min() == areas.max():
            with np.errstate(invalid="ignore"):
                varied = np.isfinite(box_areas).all() and box_areas.max() > 1.5 * max(box_areas.min(), 0)
            if varied:
                self._implausible += [f"all have {areas[0]:g} px"] * len(areas)
                arrays["areas"] = box_areas
        for kind, examples, observed, expected in (
            ("implausible-area", self._implausible, "the areas of {} objects are placeholders", "areas in pixels"),
            ("rotated-box", self._rotated, "{} boxes are rotated, and read without the rotation", "upright boxes"),
            ("box-differs", self._contradicting, "{} boxes contradict their masks", "x, y, width, height in pixels"),
        ):
            if examples:
                text = f"{observed.format(f'{len(examples)} of {len(areas)}')} ({examples[0]})"
                self._on_issue(Issue(kind, self._source, text, expected, fatal=False))
        return arrays


def with_numbers(record: dict[str, Any]) -> dict[str, Any]:
    """Return an annotation with numbers for strings of them, and with the box of its mask if it has no box.

    Args:
        record: annotation; returned as it is if nothing is to be changed.
    """
    box, changes = record.get("bbox"), dict[str, Any]()
    if box in (None, []) and record.get("segmentation"):
        changes["bbox"] = mask_box(record["segmentation"])
    elif isinstance(box, list) and any(isinstance(value, str) for value in box):
        changes["bbox"] = [to_number(value) for value in box]
    for key in ("area", "iscrowd"):
        if isinstance(record.get(key), str):
            changes[key] = to_number(record[key])
    return {**record, **changes} if changes else record


def _name(record: dict[str, Any], index: int) -> str:
    return f"{record.get('id', f'{index} of the list')!s:.60}"


def _index_of(ids: NDArray[np.int64], known: list[int]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the index of each id in ``known``, and a mask of those that are not in it."""
    known_ids = np.array(known, dtype=np.int64)
    order = np.argsort(known_ids)
    position = np.searchsorted(known_ids, ids, sorter=order).clip(max=len(known) - 1)
    index = order[position].astype(np.int64)
    return index, known_ids[index] != ids


def _find_fault(record: dict[str, Any], ids: dict[str, int | None]) -> tuple[str, str] | None:
    """Return what is wrong with one annotation by itself and what was expected; ``None`` if nothing is."""
    for key, value in ids.items():
        if value is None:
            is_large = type(record.get(key)) is int
            return f"its {key} is {short(record.get(key))}", "an integer of 64 bits" if is_large else "an integer"
    box, area = record.get("bbox"), record.get("area")
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        return f"its bbox is {short(box)}", "four numbers [x, y, width, height]"
    if area is not None and not is_number(area):
        return f"its area is {short(area)}", "a number"
    if record.get("iscrowd") not in (None, 0, 1):
        return f"its iscrowd is {short(record['iscrowd'])}", "0 or 1"
    return None
