"""Reader of the XML of "CVAT for images": boxes, polygons, masks and ellipses."""

import math
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from drfpn.data.annotations import Annotations
from drfpn.data.formats.coco_records import CocoRecords
from drfpn.data.formats.file_layout import FileLayout, SplitFile
from drfpn.data.formats.split_names import OTHERS, name_splits
from drfpn.data.masks.rle import encode
from drfpn.data.progress import ProgressCallback
from drfpn.data.validation.issues import Issue, IssueHandler

ANNOTATIONS = "annotations.xml"

_SHAPES = ("box", "polygon", "mask", "ellipse")
_OTHER_SHAPES = ("polyline", "points", "cuboid", "skeleton", "tag")
"""Elements that are no objects with a box."""


def find_cvat_layout(root: Path) -> FileLayout | None:
    """Return the layout of a folder with CVAT's annotations.xml and images/ in it; ``None`` if it is none."""
    file = root / ANNOTATIONS
    return cvat_layout(file, root) if file.is_file() else None


def cvat_layout(file: Path, root: Path | None = None) -> FileLayout:
    """Return the layout of one XML file of CVAT; its subsets, if it has any, are the splits.

    Args:
        file: the annotations.
        root: name of the data set in messages; ``None`` for ``file``.
    """
    images = file.parent / "images"
    subsets = dict.fromkeys(image.get("subset", "") for image in _images(file))
    files = {}
    for split, subset in name_splits(subset for subset in subsets if subset).items():
        read = partial(parse_cvat, subset=subset)
        files[split] = SplitFile(file, (images / subset, images), file.parent, read, _first_names)
    if "" in subsets and files:
        read = partial(parse_cvat, subset="")
        files[OTHERS] = SplitFile(file, (images,), file.parent, read, _first_names)
    if not files:
        files = {"all": SplitFile(file, (images,), file.parent, parse_cvat, _first_names)}
    return FileLayout(root or file, tuple(files), files)


def parse_cvat(
    file: Path,
    image_root: Path,
    on_issue: IssueHandler,
    progress: ProgressCallback | None = None,
    *,
    segmentations: bool = True,
    subset: str | None = None,
) -> Annotations | None:
    """Read the valid records of an XML file of CVAT and report the others; ``None`` if nothing is valid.

    The box of a rotated box or ellipse is the smallest upright one around it. Shapes without an area are left out.

    Args:
        file: the annotations.
        image_root: folder of the images.
        on_issue: called with each issue.
        progress: not called.
        segmentations: keep the segmentations.
        subset: read only the images of this subset, which is empty for those without one; ``None`` for all.
    """
    try:
        root = ElementTree.parse(file).getroot()
    except (ElementTree.ParseError, OSError, UnicodeError) as error:
        on_issue(Issue("not-annotations", str(file), f"it is not XML ({error})", "the XML of 'CVAT for images'"))
        return None
    if root.tag != "annotations" or root.find("image") is None:
        content = "tracks of 'CVAT for video'" if root.find("track") is not None else f"<{root.tag}> without images"
        on_issue(Issue("not-annotations", str(file), f"it holds {content}", "the XML of 'CVAT for images'"))
        return None
    records = CocoRecords(file, on_issue, segmentations=segmentations)
    labels = [name.text or "" for name in root.findall("meta//labels/label/name")]
    left_out: Counter[str] = Counter()
    number = without_subset = 0
    for index, image in enumerate(root.iter("image")):
        of = image.get("subset", "")
        if subset is not None and of != subset:
            without_subset += not of
            continue
        size = {side: int(image.get(side, "")) if image.get(side, "").isdigit() else 0 for side in ("width", "height")}
        records.add_image(index, {"id": index + 1, "file_name": image.get("name"), **size})
        for shape in image:
            if shape.tag in _OTHER_SHAPES or shape.get("outside") == "1":
                left_out[shape.tag] += 1
            if shape.tag not in _SHAPES or shape.get("outside") == "1":
                continue
            label = shape.get("label", "")
            if label not in labels:
                labels.append(label)
            number += 1
            try:
                record = _record(shape, size["height"], size["width"])
            except (TypeError, ValueError) as error:
                where = f"{file}: <{shape.tag}> of image '{image.get('name')}'"
                on_issue(Issue("bad-record", where, f"it cannot be read ({error})", "coordinates as CVAT writes them"))
                continue
            ids = {"id": number, "image_id": index + 1, "category_id": labels.index(label)}
            records.add_annotation(number - 1, record | ids)
    for index, label in enumerate(dict.fromkeys(labels)):
        records.add_category(index, {"id": labels.index(label), "name": label})
    if without_subset:
        observed = f"{without_subset} images have no subset; they are the split '{OTHERS}'"
        on_issue(Issue("left-out-images", str(file), observed, "a subset of each image", fatal=False))
    if left_out:
        observed = ", ".join(f"{count} <{tag}>" for tag, count in left_out.items()) + " are no objects with a box"
        on_issue(Issue("left-out-shapes", str(file), observed, "boxes, polygons, masks or ellipses", fatal=False))
    return records.annotations(image_root)


def _record(shape: ElementTree.Element, height: int, width: int) -> dict[str, Any]:
    """Return box, area and segmentation of a shape in COCO's terms.

    Args:
        shape: element.
        height: height of the image in pixels.
        width: width of the image in pixels.

    Raises:
        TypeError, ValueError: an attribute is missing or not a number, or a mask does not fit the image.
    """
    if shape.tag == "polygon":
        points = [[float(value) for value in point.split(",")] for point in (shape.get("points") or "").split(";")]
        xs, ys = zip(*points, strict=True)
        box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
        corners = zip(points, [*points[1:], points[0]], strict=True)
        area = abs(sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in corners)) / 2
        return {"bbox": box, "area": area or None, "segmentation": [[value for point in points for value in point]]}
    if shape.tag == "mask":
        return _mask_record(shape, height, width)
    rotation = math.radians(float(shape.get("rotation", 0)))
    cosine, sine = abs(math.cos(rotation)), abs(math.sin(rotation))
    if shape.tag == "ellipse":
        cx, cy, rx, ry = (_number(shape, key) for key in ("cx", "cy", "rx", "ry"))
        half_width, half_height = math.hypot(rx * cosine, ry * sine), math.hypot(rx * sine, ry * cosine)
        area = math.pi * rx * ry
    else:
        x1, y1, x2, y2 = (_number(shape, key) for key in ("xtl", "ytl", "xbr", "ybr"))
        if not rotation:
            return {"bbox": [x1, y1, x2 - x1, y2 - y1]}
        cx, cy, area = (x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) * (y2 - y1)
        half_width = ((x2 - x1) * cosine + (y2 - y1) * sine) / 2
        half_height = ((x2 - x1) * sine + (y2 - y1) * cosine) / 2
    return {"bbox": [cx - half_width, cy - half_height, 2 * half_width, 2 * half_height], "area": area}


def _mask_record(shape: ElementTree.Element, height: int, width: int) -> dict[str, Any]:
    """Return the record of a mask, which CVAT stores as run lengths of the rows of its box."""
    left, top, columns, rows = (int(_number(shape, key)) for key in ("left", "top", "width", "height"))
    counts = [int(count) for count in (shape.get("rle") or "").split(",")]
    if min(counts) < 0 or sum(counts) != rows * columns:
        raise ValueError(f"its rle has {sum(counts)} pixels, its box {rows * columns}")
    if min(left, top) < 0 or left + columns > width or top + rows > height:
        raise ValueError("it reaches out of the image")
    pixels = np.repeat(np.arange(len(counts)) % 2, counts).reshape(rows, columns)
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[top : top + rows, left : left + columns] = pixels
    covered_rows, covered_columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(covered_rows):
        raise ValueError("it covers no pixel")
    x, y = float(covered_columns[0]), float(covered_rows[0])
    box = [x, y, float(covered_columns[-1]) + 1 - x, float(covered_rows[-1]) + 1 - y]
    return {"bbox": box, "area": float(mask.sum()), "segmentation": encode(mask)}


def _number(shape: ElementTree.Element, key: str) -> float:
    value = shape.get(key)
    if value is None:
        raise ValueError(f"it has no {key}")
    return float(value)


def _first_names(file: Path) -> list[str]:
    return [image.get("name", "") for image in islice(_images(file), 20)]


def _images(file: Path) -> Iterator[ElementTree.Element]:
    """Yield the <image> elements as far as the file is XML, each with its attributes only."""
    try:
        with file.open("rb") as stream:
            for event, element in ElementTree.iterparse(stream, ("start", "end")):
                if event == "end":
                    element.clear()
                elif element.tag == "image":
                    yield element
    except (ElementTree.ParseError, OSError, ValueError):
        return  # the reader of the file says why
