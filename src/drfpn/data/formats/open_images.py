"""Reader of the CSV files of boxes of Open Images."""

import csv
from functools import partial
from pathlib import Path
from typing import Any

from hotcoco import COCO

from drfpn.data.annotations import Annotations
from drfpn.data.formats.coco_records import CocoRecords
from drfpn.data.formats.file_layout import FileLayout, SplitFile
from drfpn.data.formats.image_names import direct_or_below
from drfpn.data.formats.split_names import is_split_name, name_splits
from drfpn.data.image_io import image_size
from drfpn.data.progress import ProgressCallback
from drfpn.data.validation.issues import Issue, IssueHandler
from drfpn.utils.errors import UserError, message_of

_COLUMNS = {"ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax"}


def find_open_images_layout(root: Path) -> FileLayout | None:
    """Return the layout of a folder of Open Images; ``None`` if it is none.

    Known are {split}-annotations-bbox.csv with the images in {split}/, also in a folder ``annotations`` or ``csv``, and
    FiftyOne's {split}/labels/detections.csv with {split}/data/.
    """
    files = {file.parent.parent.name: file for file in sorted(root.glob("*/labels/detections.csv"))}
    for folder in ("", "annotations", "csv"):
        for file in sorted((root / folder).glob("*-annotations-bbox.csv")):
            split = file.name.removesuffix("-annotations-bbox.csv").rpartition("-")[2]
            files.setdefault(split, file)
    files = {name: file for name, file in files.items() if _has_boxes(file)}
    return _layout(root, root, files) if files else None


def open_images_layout(file: Path) -> FileLayout:
    """Return the layout of one CSV file of boxes.

    Args:
        file: the annotations.
    """
    split = file.name.removesuffix("-annotations-bbox.csv").rpartition("-")[2]
    return _layout(file, file.parent, {split if is_split_name(split) else "all": file})


def parse_open_images(
    file: Path,
    image_root: Path,
    on_issue: IssueHandler,
    progress: ProgressCallback | None = None,
    *,
    segmentations: bool = True,
    class_descriptions: Path | None = None,
) -> Annotations | None:
    """Read the boxes of the images that are on disk; ``None`` if nothing is valid.

    Coordinates are fractions of the image, whose size is read from the file. Boxes around groups become crowds.

    Args:
        file: CSV of boxes.
        image_root: folder of the images, called {ImageID}.jpg.
        on_issue: called with each issue.
        progress: called with the number of images whose size was read so far and the total.
        segmentations: not used: the file has none.
        class_descriptions: CSV with the names of classes; ``None`` if they have none.
    """
    try:
        names = None if class_descriptions is None else str(class_descriptions)
        dataset = COCO.from_oid(str(file), class_descriptions=names).dataset
    except (ValueError, OSError) as error:
        on_issue(Issue("not-annotations", str(file), f"it cannot be read ({error})", "a CSV of boxes of Open Images"))
        return None
    on_disk = {path.stem: path.relative_to(image_root).as_posix() for path in direct_or_below(image_root)}
    records = CocoRecords(file, on_issue)
    sizes: dict[int, tuple[int, int]] = {}
    for index, image in enumerate(dataset["images"]):
        path = on_disk.get(image["file_name"])
        if path is not None and (size := _size(image_root / path, on_issue)) is not None:
            sizes[image["id"]] = size
            records.add_image(index, {"id": image["id"], "file_name": path, "height": size[0], "width": size[1]})
        if progress is not None:
            progress(index + 1, len(dataset["images"]))
    if missing := len(dataset["images"]) - len(sizes):
        observed = f"{missing} of {len(dataset['images'])} images are not in {image_root}, and left out"
        on_issue(Issue("left-out-images", str(file), observed, "all images", fatal=False))
    for index, category in enumerate(dataset["categories"]):
        records.add_category(index, category)
    for index, annotation in enumerate(dataset["annotations"]):
        if annotation["image_id"] in sizes:
            records.add_annotation(index, _in_pixels(annotation, *sizes[annotation["image_id"]]))
    return records.annotations(image_root)


def _in_pixels(annotation: dict[str, Any], height: int, width: int) -> dict[str, Any]:
    x, y, box_width, box_height = annotation["bbox"]
    box = [x * width, y * height, box_width * width, box_height * height]
    ids = {key: annotation[key] for key in ("id", "image_id", "category_id")}
    return {**ids, "bbox": box, "iscrowd": int(annotation.get("is_group_of", False))}


def _size(path: Path, on_issue: IssueHandler) -> tuple[int, int] | None:
    try:
        return image_size(path)
    except UserError as error:
        on_issue(Issue("image-undecodable", str(path), message_of(error), "an image that can be decoded"))
        return None


def _layout(name: Path, folder: Path, files: dict[str, Path]) -> FileLayout:
    splits = {}
    for split, on_disk in name_splits(files).items():
        file = files[on_disk]
        candidates = [
            *(path for place in (folder, file.parent) for path in sorted(place.glob("*class-descriptions*.csv"))),
            file.parent.parent / "metadata" / "classes.csv",
        ]
        descriptions = next((path for path in candidates if path.is_file()), None)
        read = partial(parse_open_images, class_descriptions=descriptions)
        folders = (file.parent.parent / "data", folder / on_disk, folder / "images" / on_disk, folder / "images")
        splits[split] = SplitFile(file, folders, folder, read, lambda file: [])
    return FileLayout(name, tuple(splits), splits)


def _has_boxes(file: Path) -> bool:
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        return set(next(csv.reader(stream), [])) >= _COLUMNS
