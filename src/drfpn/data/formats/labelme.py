"""Reader of LabelMe's format: one JSON file for each image."""

import json
import os
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from drfpn.data.annotation_builder import AnnotationBuilder
from drfpn.data.annotations import Annotations
from drfpn.data.formats.files import base_name
from drfpn.data.formats.folder_pairs import FolderPair
from drfpn.data.formats.labelme_shapes import label_of, read_shapes
from drfpn.data.formats.pairing import ImageChooser, unannotated_images
from drfpn.data.progress import ProgressCallback
from drfpn.data.validation.issues import Issue, IssueHandler


@dataclass(frozen=True)
class _Record:
    """A file of annotations; without ``imageData``, which is large."""

    key: str
    file: Path
    value: dict[str, Any]


def is_json_file(path: Path) -> bool:
    """Return whether a path has the suffix of a JSON file."""
    return path.suffix.lower() == ".json"


def parse_labelme(
    sources: Mapping[str, FolderPair],
    split: str,
    on_issue: IssueHandler,
    progress: ProgressCallback | None = None,
    *,
    segmentations: bool = True,
) -> Annotations | None:
    """Read the valid records of a split in LabelMe's format and report the others; ``None`` if nothing is valid.

    - Rectangles, polygons, circles and masks are read; points and lines have no box and are left out. Shapes with the
      same label and ``group_id`` are parts of one object.
    - The classes are the sorted labels of all splits, so that splits agree.
    - Which image a file annotates is told by ``pairing.ImageChooser`` and ``imagePath``; ``imageData`` is not read.
    - Images without a file are left out: LabelMe saves none for an image that nobody has annotated yet.

    Args:
        sources: the folders of each split.
        split: one of ``sources``.
        on_issue: called with each issue.
        progress: called with the number of files read so far and the total.
        segmentations: keep the segmentations.
    """
    folders = sources[split]
    records = _read_all(sources, on_issue, progress)
    own = records[folders.annotations]
    if not own:
        on_issue(Issue("no-images", str(folders.annotations), "it holds no annotation of LabelMe", "one an image"))
        return None
    classes = sorted({label for others in records.values() for record in others for label in _labels(record)})
    if not classes:
        observed = "no file holds a shape with a label"
        on_issue(Issue("no-categories", str(folders.annotations), observed, "at least one class"))
        return None
    labels = {name: label for label, name in enumerate(classes, start=1)}
    chosen = _choose_images(folders, own, on_issue)
    objects, sizes = AnnotationBuilder(segmentations=segmentations), []
    for index, (record, _) in enumerate(chosen):
        size = _size(record.value)
        sizes.append(size)
        for shape in read_shapes(record.value, size, str(record.file), on_issue):
            x1, y1, x2, y2 = shape.box
            objects.add(
                image_index=index,
                box=[x1, y1, x2 - x1, y2 - y1],
                label=labels[shape.label],
                area=shape.area,
                segmentation=shape.segmentation,
            )
    keys = sorted((folder, record.key) for folder, others in records.items() for record in others)
    image_ids = {key: image_id for image_id, key in enumerate(keys, start=1)}
    return Annotations(
        root=folders.images,
        source=folders.annotations,
        classes=tuple(classes),
        category_ids=np.arange(1, len(classes) + 1),
        image_ids=np.array([image_ids[folders.annotations, record.key] for record, _ in chosen], dtype=np.int64),
        file_names=np.array([image for _, image in chosen], dtype=np.str_),
        sizes=np.array(sizes, dtype=np.int64).reshape(-1, 2),
        annotation_files=np.array([str(record.file) for record, _ in chosen], dtype=np.str_),
        **objects.arrays(len(chosen)),
    )


def _read_all(
    sources: Mapping[str, FolderPair], on_issue: IssueHandler, progress: ProgressCallback | None
) -> dict[Path, list[_Record]]:
    """Return the records of each folder of JSON files."""
    indices = {folders.annotations: folders.annotation_index for folders in sources.values()}
    total, done = sum(len(index.files) for index in indices.values()), 0
    records: dict[Path, list[_Record]] = {folder: [] for folder in indices}
    for folder, index in indices.items():
        for key, names in index.files.items():
            record = _read(key, folder / names[0], on_issue)
            if record is not None:
                records[folder].append(record)
            done += 1
            if progress is not None:
                progress(done, total)
    return records


def _read(key: str, file: Path, on_issue: IssueHandler) -> _Record | None:
    try:
        value = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        on_issue(Issue("not-labelme", str(file), f"it cannot be read as JSON ({error})", "an annotation of LabelMe"))
        return None
    if not isinstance(value, dict) or "shapes" not in value:
        observed = "it has no 'shapes' and is left out"
        on_issue(Issue("unused-label", str(file), observed, "an annotation of LabelMe", fatal=False))
        return None
    value.pop("imageData", None)
    return _Record(key, file, value)


def _labels(record: _Record) -> list[str]:
    shapes = record.value["shapes"]
    labels = map(label_of, shapes) if isinstance(shapes, list) else ()
    return [label for label in labels if label is not None]


def _size(value: dict[str, Any]) -> tuple[int, int]:
    """Return (height, width); (0, 0) if not annotated."""
    height, width = value.get("imageHeight"), value.get("imageWidth")
    if isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0:
        return height, width
    return 0, 0


def _choose_images(folders: FolderPair, records: list[_Record], on_issue: IssueHandler) -> list[tuple[_Record, str]]:
    """Return the records with the paths of their images; without those whose image cannot be told."""
    chooser = ImageChooser(folders.image_index, folders.annotation_index, "imagePath", on_issue)
    chosen = []
    for record in records:
        image = chooser.choose(record.key, record.file, _stated_image(folders, record))
        if image is not None:
            chosen.append((record, image))
    for issue in unannotated_images(folders.image_index, {image for _, image in chosen}):
        on_issue(issue)
    return chosen


def _stated_image(folders: FolderPair, record: _Record) -> str | None:
    """Return ``imagePath``, which starts from the JSON file, as a path from the folder of images, or as a name."""
    stated = record.value.get("imagePath")
    if not isinstance(stated, str) or not stated.strip():
        return None
    stated = stated.strip().replace("\\", "/")
    path = os.path.relpath(posixpath.join(record.file.parent.as_posix(), stated), folders.images).replace("\\", "/")
    return base_name(stated) if path.startswith("../") else path
