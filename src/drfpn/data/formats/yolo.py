"""Reader of YOLO's format: one text file of boxes or polygons for each image."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from drfpn.data.annotation_builder import AnnotationBuilder
from drfpn.data.annotations import Annotations
from drfpn.data.formats.yolo_files import find_labels, list_images
from drfpn.data.formats.yolo_lines import LineReader, YoloLine
from drfpn.data.formats.yolo_yaml import YoloConfig, read_yolo_config
from drfpn.data.image_io import image_size
from drfpn.data.masks.polygons import signed_area
from drfpn.data.progress import ProgressCallback
from drfpn.data.validation.image_files import image_file_issue
from drfpn.data.validation.issues import Issue, IssueHandler, raise_issue
from drfpn.utils.errors import UserError, did_you_mean

_READ_THREADS = 8
"""More than CPU cores: they mostly wait for the disk."""


def read_yolo(yaml_file: str | os.PathLike[str], split: str) -> Annotations:
    """Read one split of a YOLO data set; see ``yolo_yaml`` for the YAML file and ``yolo_files`` for paths of labels.

    - A line of five numbers is a class id from 0 and a box: x and y of its center, width and height, as fractions of
      the image size. A longer one is a class id and a polygon x, y, x, y, ...; its box is that of its points. A file
      may hold both. With ``kpt_shape`` in the YAML file a longer line is a box and its keypoints.
    - Class id c becomes label c + 1 and category id c + 1: COCO's evaluation expects ids from 1.
    - An empty or missing label file means an image without objects; if all are missing, the folder is wrong.
    - A line that repeats an earlier one of its file is skipped, as by YOLO's own tools: published data sets have them.
    - Image ids are 1, 2, ... in the order of the images.

    Args:
        yaml_file: the YAML file of the data set.
        split: name of the split.

    Raises:
        UserError: the split, a folder or an image is missing, or a line is invalid.
    """
    config = read_yolo_config(Path(yaml_file))
    if split not in config.sources:
        existing = ", ".join(config.sources)
        raise UserError(
            f"{yaml_file} has no split '{split}', expected one of: {existing}.{did_you_mean(split, config.sources)}"
        )
    annotations = parse_yolo(config, split, raise_issue)
    assert annotations is not None  # else raise_issue has raised
    return annotations


def parse_yolo(
    config: YoloConfig, split: str, on_issue: IssueHandler, progress: ProgressCallback | None = None
) -> Annotations | None:
    """Read the valid records of a split of a YOLO data set and report the others; ``None`` if nothing is valid.

    Args:
        config: configuration of the data set.
        split: one of ``config.sources``.
        on_issue: called with each issue.
        progress: called with the number of images whose size and labels were read so far and the total.

    Raises:
        UserError: a folder or list of images is missing.
    """
    root, images = list_images(config, split)
    if not images:
        folders = ", ".join(map(str, config.sources[split]))
        on_issue(Issue("no-images", folders, "it holds no image", "images"))
        return None
    labels, label_issues = find_labels(config, images)
    for issue in label_issues:
        on_issue(issue)
    objects, sizes, label_files = AnnotationBuilder(), [], 0
    lines = LineReader(config)
    for index, (size, text) in enumerate(_read_all(images, labels, on_issue)):
        sizes.append(size)
        label_files += text is not None
        if text and size != (0, 0):
            for line in lines.read(text, labels[index], on_issue):
                _add_object(objects, index, line, *size)
        if progress is not None:
            progress(index + 1, len(images))
    if not label_files:
        observed = f"none of the {len(images)} images of '{split}' has a label file"
        on_issue(Issue("annotations-missing", str(config.file), observed, f"'{labels[0]}' and so on"))
        return None
    if (ambiguity := lines.ambiguity()) is not None:
        on_issue(ambiguity)
        return None
    return Annotations(
        root=root,
        source=config.file,
        classes=config.classes,
        category_ids=np.arange(1, len(config.classes) + 1),
        image_ids=np.arange(1, len(images) + 1),
        file_names=np.array([os.path.relpath(image, root) for image in images], dtype=np.str_),
        sizes=np.array(sizes, dtype=np.int64),
        annotation_files=np.array([str(label) for label in labels], dtype=np.str_),
        **objects.arrays(len(images)),
    )


def _read_all(
    images: list[Path], labels: list[Path], on_issue: IssueHandler
) -> Iterator[tuple[tuple[int, int], str | None]]:
    """Yield for each image (height, width), (0, 0) if unreadable, and its label text, ``None`` without a label file."""

    def read(image: Path, label: Path) -> tuple[tuple[int, int], Issue | None, str | None]:
        text = _read_text(label)
        try:
            return image_size(image), None, text
        except UserError as error:
            return (0, 0), image_file_issue(image, error), text

    with ThreadPoolExecutor(_READ_THREADS) as pool:
        try:
            for size, issue, text in pool.map(read, images, labels):
                if issue is not None:
                    on_issue(issue)
                yield size, text
        finally:  # an exception of on_issue should not wait for the others
            pool.shutdown(cancel_futures=True)


def _read_text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8-sig", errors="replace")
    except (FileNotFoundError, NotADirectoryError) as error:
        if file.is_symlink():
            target = os.readlink(file)
            raise UserError(f"{file} is a link to '{target}', which does not exist, expected a label file.") from error
        return None
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}).") from error


def _add_object(objects: AnnotationBuilder, image_index: int, line: YoloLine, height: int, width: int) -> None:
    if line.is_box:
        x, y, w, h = line.coordinates
        box = [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]
        objects.add(image_index=image_index, box=box, label=line.label, area=box[2] * box[3])
        return
    points = np.array(line.coordinates).reshape(-1, 2) * (width, height)
    top_left, size = points.min(axis=0), np.ptp(points, axis=0)
    objects.add(
        image_index=image_index,
        box=[*top_left.tolist(), *size.tolist()],
        label=line.label,
        area=abs(signed_area(points)),
        segmentation=[points.ravel().tolist()],
    )
