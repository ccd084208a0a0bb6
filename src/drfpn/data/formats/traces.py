"""Files of known formats in a folder that has none of the known layouts."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

_TRACES = {
    "_annotations.coco.json": ("Roboflow's COCO", "{split}/_annotations.coco.json with the images beside it"),
    "instances_*.json": ("COCO", "it in annotations/"),
    "person_keypoints_*.json": ("COCO's keypoints", "it in annotations/"),
    "result.json": ("Label Studio's COCO", "it with lists of images, annotations and categories, beside images/"),
    "metadata.jsonl": ("Hugging Face's ImageFolder", "`objects` with `bbox` and `categories` in its lines"),
    "metadata.csv": ("Hugging Face's ImageFolder", "metadata.jsonl with `objects`"),
    "metadata.parquet": ("Hugging Face's ImageFolder", "metadata.jsonl with `objects`"),
    "*.parquet": ("a data set of Hugging Face in Parquet", "image files with metadata.jsonl"),
    "*-annotations-bbox.csv": ("Open Images", "it in the folder, with its columns ImageID, LabelName, XMin, ..."),
    "labelTxt*": ("DOTA", "images/ and labelTxt/, or both in a folder for each split"),
    "annotations.xml": ("CVAT", "it in the folder, with images/"),
    "*.tfrecord*": ("TFRecord", "image files with annotations in COCO, VOC or YOLO format"),
    "via*.json": ("a project of VIA", "its export in COCO format"),
    "ann/*.json": ("Supervisely", "its export in COCO format"),
    "ImageSets": ("Pascal VOC", "the folder that holds it"),
}
"""Pattern of a file: its format, and what that is read from."""

_DEPTH = 3
_MAX_FILES = 2000


def describe_traces(root: Path) -> str:
    """Return a sentence that begins with a space about the first file of a known format, or an empty string.

    Args:
        root: the folder.
    """
    files = list(islice(_walk(root, _DEPTH), _MAX_FILES))
    for pattern, (name, expected) in _TRACES.items():
        for file in files:
            if file.match(pattern):
                return f" Found '{file.relative_to(root)}': {name}, of which is expected {expected}."
    return ""


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    """Yield files and folders, those of a folder before those of its subfolders."""
    try:
        entries = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")]
    except OSError:
        return
    yield from entries
    if depth > 1:
        for entry in entries:
            if entry.is_dir():
                yield from _walk(entry, depth - 1)
