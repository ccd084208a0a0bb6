"""Check for a second annotation of the same images in another format, which is not read."""

import json
import re
from pathlib import Path

from drfpn.data.annotations import Annotations
from drfpn.data.validation.issues import Issue

_MAX_SAMPLED = 100
"""Images that are looked at, from the first on."""
_MIN_FRACTION = 0.2
"""Fraction of images with another number of objects from which there is an issue: converters leave some out."""


def other_format_issue(annotations: Annotations) -> Issue | None:
    """Return an issue if images also have a file of LabelMe, VOC or YOLO, with another number of objects.

    Args:
        annotations: of a split; those that are read from a file for each image have no issue.
    """
    if annotations.annotation_files is not None:
        return None
    compared = 0
    differing: list[str] = []
    for index in range(min(len(annotations), _MAX_SAMPLED)):
        objects = annotations.object_slice(index)
        total = objects.stop - objects.start
        crowds = int(annotations.crowd[objects].sum())
        for file in _files_of(annotations.path(index)):
            count = _count_objects(file) if file != annotations.source else None
            if count is None:
                continue
            compared += 1
            if count not in (total, total - crowds):
                name = annotations.file_names[index]
                differing.append(f"objects of '{name}': {total} here, {count} in '{file}'")
    if not differing or len(differing) < _MIN_FRACTION * compared:
        return None
    observed = f"images are also annotated in another format, and differently ({differing[0]})"
    return Issue("other-format", str(annotations.source), observed, "one format", fatal=False)


def _files_of(image: Path) -> list[Path]:
    """Return the files that tools write for an image: beside it, and in ``labels`` for ``images``."""
    files = [image.with_suffix(suffix) for suffix in (".json", ".xml", ".txt")]
    parts = list(image.parts)
    if "images" in parts[:-1]:
        position = len(parts) - 1 - parts[::-1].index("images")
        parts[position] = "labels"
        files.append(Path(*parts).with_suffix(".txt"))
    return files


def _count_objects(file: Path) -> int | None:
    """Return the number of objects in a file of LabelMe, VOC or YOLO; ``None`` if it is none of them."""
    try:
        text = file.read_text(encoding="utf-8-sig")
        if file.suffix == ".json":
            shapes = json.loads(text)["shapes"]
            return len(shapes) if isinstance(shapes, list) else None
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return None
    if file.suffix == ".xml":
        return len(re.findall(r"<object\b", text)) if "<annotation" in text else None
    lines = [line.split() for line in text.splitlines() if line.strip()]
    is_yolo = all(len(words) >= 5 and words[0].isdigit() for words in lines)
    return len(lines) if is_yolo else None
