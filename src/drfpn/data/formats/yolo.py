"""Reading YOLO's format: one text file of boxes or polygons for each image."""

import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from drfpn.data.annotation_builder import ObjectLists
from drfpn.data.annotations import Annotations
from drfpn.data.formats.yolo_yaml import YoloConfig, find_labels, list_images, read_yolo_config
from drfpn.data.image_io import image_size
from drfpn.data.masks.polygons import signed_area
from drfpn.data.validation.problems import Problem, Progress, Report, image_problem, raise_problem
from drfpn.utils.errors import UserError, did_you_mean

TOLERANCE = 0.01
"""How far a share of the image may leave 0..1: what rounding and sloppy tools produce."""

_READERS = 8
"""Threads: they wait for the disk most of the time."""

BOX_NUMBERS = 5
LEAST_POLYGON_NUMBERS = 7


def read_yolo(yaml_file: str | os.PathLike[str], split: str) -> Annotations:
    """Read one split of a YOLO data set; see ``yolo_config`` for the YAML file and where labels are.

    - A line of five numbers is a class id from 0 and a box: x and y of its centre, width and height, as shares of
      the image. A longer one is a class id and a polygon x, y, x, y, ...; its box is that of its points. A file may
      hold both.
    - Class id c becomes label c + 1 and category id c + 1: COCO's evaluation is used to ids from 1.
    - An empty or missing label file means an image without objects; none at all means the wrong folder.
    - A line that repeats an earlier one of its file is left out, as YOLO's own tools do: published sets have them.
    - Image ids are 1, 2, ... in the order of the images.

    Raises:
        UserError: The split, a folder or an image is missing, or a line is faulty.
    """
    config = read_yolo_config(Path(yaml_file))
    if split not in config.sources:
        there = ", ".join(config.sources)
        raise UserError(
            f"{yaml_file} has no split '{split}', expected one of: {there}.{did_you_mean(split, config.sources)}"
        )
    annotations = parse_yolo(config, split, raise_problem)
    assert annotations is not None  # the report raises where there is nothing to return
    return annotations


def parse_yolo(config: YoloConfig, split: str, report: Report, progress: Progress | None = None) -> Annotations | None:
    """Read what is sound in a split of a YOLO data set and report the rest; ``None`` if nothing is.

    Args:
        config: Of the data set.
        split: One of ``config.sources``.
        report: Receives what is wrong.
        progress: Is called with the number of images whose size and labels were read so far, and of all.

    Raises:
        UserError: A folder or list of images is missing.
    """
    root, images = list_images(config, split)
    if not images:
        where = ", ".join(map(str, config.sources[split]))
        report(Problem("no-images", where, "it holds no image", "images"))
        return None
    labels = find_labels(config, images)
    objects, sizes, found = ObjectLists(), [], 0
    classes = len(config.classes)
    for index, (size, text) in enumerate(_read_all(images, labels, report)):
        sizes.append(size)
        found += text is not None
        if text and size != (0, 0):
            for line in _parse_lines(text, labels[index], classes, report):
                _add(objects, index, line, *size)
        if progress is not None:
            progress(index + 1, len(images))
    if not found:
        what = f"none of the {len(images)} images of '{split}' has a label file"
        report(Problem("annotations-missing", str(config.file), what, f"'{labels[0]}' and so on"))
        return None
    return Annotations(
        root=root,
        source=config.file,
        classes=config.classes,
        category_ids=np.arange(1, classes + 1),
        image_ids=np.arange(1, len(images) + 1),
        file_names=np.array([os.path.relpath(image, root) for image in images], dtype=np.str_),
        sizes=np.array(sizes, dtype=np.int64),
        annotation_files=np.array([str(label) for label in labels], dtype=np.str_),
        **objects.arrays(len(images)),
    )


@dataclass(frozen=True)
class _Line:
    """A sound line: a box (centre, width, height) or a polygon, in shares of the image."""

    label: int
    numbers: list[float]


def _read_all(images: list[Path], labels: list[Path], report: Report) -> Iterator[tuple[tuple[int, int], str | None]]:
    """Yield (height, width) of each image, 0, 0 where it has none, and its labels, ``None`` without a label file."""

    def read(image: Path, label: Path) -> tuple[tuple[int, int], Problem | None, str | None]:
        text = _read_text(label)
        try:
            return image_size(image), None, text
        except UserError as error:
            return (0, 0), image_problem(image, error), text

    with ThreadPoolExecutor(_READERS) as pool:
        try:
            for size, problem, text in pool.map(read, images, labels):
                if problem is not None:
                    report(problem)
                yield size, text
        finally:  # a report that raises should not wait for the others
            pool.shutdown(cancel_futures=True)


def _read_text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8-sig", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}).") from error


def _parse_lines(text: str, file: Path, classes: int, report: Report) -> Iterator[_Line]:
    seen: dict[tuple[str, ...], int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        words = tuple(line.split())
        if not words:
            continue
        where = f"{file}: line {number}"
        if words in seen:
            found = f"it repeats line {seen[words]} and is left out"
            report(Problem("repeated-line", where, found, "each object once", fatal=False))
            continue
        seen[words] = number
        parsed = _parse_line(words, where, classes)
        if isinstance(parsed, Problem):
            report(parsed)
        else:
            yield parsed


def _parse_line(words: tuple[str, ...], where: str, classes: int) -> _Line | Problem:
    if len(words) != BOX_NUMBERS and (len(words) < LEAST_POLYGON_NUMBERS or len(words) % 2 == 0):
        expected = "a class id and a box (four numbers) or a polygon (x and y of three points or more)"
        return Problem("bad-record", where, f"it has {len(words)} {'word' if len(words) == 1 else 'words'}", expected)
    numbers = []
    for place, word in enumerate(words, start=1):
        try:
            number = float(word)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            return Problem("bad-record", where, f"its word {place} is {word!r:.60}", "a finite number")
        numbers.append(number)
    class_id, *shares = numbers
    if not class_id.is_integer():
        return Problem("bad-record", where, f"its class id is {words[0]}", "a whole number")
    if not 0 <= class_id < classes:
        expected = f"0 to {classes - 1}, as the YAML file names {classes} {'class' if classes == 1 else 'classes'}"
        return Problem("unknown-category", where, f"its class id is {words[0]}", expected)
    worst = max(shares, key=lambda share: abs(share - 0.5))
    if abs(worst - 0.5) > 0.5 + TOLERANCE:
        place = shares.index(worst) + 1
        expected = "shares of the image's width and height, 0 to 1 (not pixels)"
        return Problem("bad-record", where, f"its coordinate {place} is {words[place]}", expected)
    return _Line(int(class_id) + 1, shares)


def _add(objects: ObjectLists, image: int, line: _Line, height: int, width: int) -> None:
    numbers = line.numbers
    if len(numbers) == BOX_NUMBERS - 1:
        x, y, w, h = numbers
        box = [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]
        objects.add(image=image, box=box, label=line.label, area=box[2] * box[3])
        return
    points = np.array(numbers).reshape(-1, 2) * (width, height)
    left_top, size = points.min(axis=0), np.ptp(points, axis=0)
    objects.add(
        image=image,
        box=[*left_top.tolist(), *size.tolist()],
        label=line.label,
        area=abs(signed_area(points)),
        segmentation=[points.ravel().tolist()],
    )
