"""Writer of LabelMe's format: one JSON file for each image, beside it."""

import base64
import io
import json
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from drfpn.data.formats.base_writer import DatasetWriter, Splits, unique_name
from drfpn.data.formats.files import fold
from drfpn.data.formats.folder_pairs import IMAGE_FOLDERS
from drfpn.data.formats.labelme_layouts import ANNOTATION_FOLDERS
from drfpn.data.masks.rle import decode
from drfpn.data.validation.masks import find_segmentation_fault
from drfpn.utils.errors import UserError

_VERSION = "5.5.0"
"""Of LabelMe, from which on its files have the keys that are written."""

_KNOWN_FOLDERS = set(map(fold, (*IMAGE_FOLDERS, *ANNOTATION_FOLDERS)))


class LabelMeWriter(DatasetWriter):
    """Writes {split}/ with images and JSON files.

    With masks an object is its polygons, which share a ``group_id`` if there are several, or its mask if that is
    run-length encoded; an object without a segmentation is a rectangle. Without masks all are rectangles.

    Args:
        folder: as of ``DatasetWriter``.
        splits: as of ``DatasetWriter``.
        masks: as of ``DatasetWriter``.

    Raises:
        UserError: a class has no name.
    """

    def __init__(self, folder: Path, splits: Splits, *, masks: bool) -> None:
        super().__init__(folder, splits, masks=masks)
        if not all(map(str.strip, self.classes)):
            raise UserError("A class has an empty name, which LabelMe cannot hold, expected printable characters.")
        self._names = {}
        for split in splits:
            used: set[str] = set()
            names = self.unique_names(split, used, by_stem=True)
            self._names[split] = [self._outside_known_folders(name, used) for name in names]

    def image_file(self, split: str, index: int) -> Path:
        """Return {split}/{name}."""
        return Path(split, self._names[split][index])

    def add(self, split: str, index: int) -> None:
        """Write the JSON file of an image."""
        annotations = self.splits[split]
        objects = annotations.object_slice(index)
        height, width = annotations.sizes[index].tolist()
        shapes: list[dict[str, Any]] = []
        for i, box in zip(range(objects.start, objects.stop), self.clipped_boxes(split, index), strict=True):
            if annotations.crowd[i]:
                self.changes["crowds left out, since LabelMe has none"] += 1
                continue
            parts = self._parts(split, i, box, height, width)
            group = i - objects.start if len(parts) > 1 else None
            label = {
                "label": self.classes[annotations.labels[i] - 1],
                "group_id": group,
                "flags": {},
                "description": "",
            }
            shapes += [label | part for part in parts]
        image = self.image_file(split, index)
        record = {
            "version": _VERSION,
            "flags": {},
            "shapes": shapes,
            "imagePath": image.name,
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
        file = (self.folder / image).with_suffix(".json")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(record, ensure_ascii=False, indent=2), encoding="utf-8")

    def finish(self) -> None:
        """Do nothing: there is no file that concerns all images."""

    def lost(self) -> list[str]:
        """Return the lines of all formats, and those about classes."""
        return [*super().lost(), *self.lost_classes(self.classes, "LabelMe's")]

    def _outside_known_folders(self, name: PurePosixPath, used: set[str]) -> PurePosixPath:
        """Return a name whose first folder is not one that readers search alone, such as ``images``."""
        if len(name.parts) == 1 or fold(name.parts[0]) not in _KNOWN_FOLDERS:
            return name
        self.changes["images renamed, since readers expect all of them in a folder of such a name"] += 1
        return unique_name(PurePosixPath(f"{name.parts[0]}_", *name.parts[1:]), used, by_stem=True)

    def _parts(self, split: str, index: int, box: NDArray[np.float64], height: int, width: int) -> list[dict[str, Any]]:
        """Return the shapes of object ``index``, without their label."""
        x, y, w, h = box.tolist()
        rectangle = {"shape_type": "rectangle", "points": [[x, y], [x + w, y + h]]}
        segmentations = self.splits[split].segmentations
        if not self.masks or segmentations is None or (segmentation := segmentations[index]) is None:
            return [rectangle]
        if find_segmentation_fault(segmentation, height, width) is not None:
            self.changes["objects whose segmentation is invalid, written as the rectangle of their box"] += 1
            return [rectangle]
        if isinstance(segmentation, list):
            polygons = [np.array(part, dtype=np.float64).reshape(-1, 2) for part in segmentation]
            points = np.concatenate(polygons)
            self.note_shift(box, np.array([points.min(axis=0), points.max(axis=0)]))
            return [{"shape_type": "polygon", "points": polygon.tolist()} for polygon in polygons]
        mask = decode(segmentation, height, width)
        if not mask.any():
            self.changes["objects whose mask is empty, written as the rectangle of their box"] += 1
            return [rectangle]
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        x1, y1, x2, y2 = (int(value) for value in (columns[0], rows[0], columns[-1], rows[-1]))
        self.note_shift(box, np.array([[x1, y1], [x2 + 1, y2 + 1]], dtype=np.float64))
        png = _to_png(mask[y1 : y2 + 1, x1 : x2 + 1])
        return [{"shape_type": "mask", "points": [[x1, y1], [x2, y2]], "mask": png}]


def _to_png(mask: NDArray[np.uint8]) -> str:
    """Return a mask as a PNG of one bit in base64."""
    stream = io.BytesIO()
    Image.fromarray(mask * 255).convert("1").save(stream, format="PNG")
    return base64.b64encode(stream.getvalue()).decode("ascii")
