"""Writer of YOLO's format: data.yaml, images and text files of boxes or polygons."""

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from drfpn.data.formats.base_writer import DatasetWriter, Splits
from drfpn.data.formats.yolo_files import label_in_labels_folder
from drfpn.data.formats.yolo_keypoints import KeypointEvidence
from drfpn.data.masks.polygons import to_polygon
from drfpn.data.validation.masks import find_segmentation_fault

DIGITS = 8
"""Decimals of a relative coordinate: 1e-4 px in an image of 10,000 px."""


class YoloWriter(DatasetWriter):
    """Writes data.yaml, images/{split}/ and labels/{split}/, as read by Ultralytics' tools.

    With masks every line is a polygon, since those tools do not read boxes and polygons from one file: several
    polygons of an object become one with bridges of no width, run-length encoded masks their contour, which covers
    the same pixels, and an object without a segmentation the rectangle of its box.

    Args:
        folder: as of ``DatasetWriter``.
        splits: as of ``DatasetWriter``.
        masks: write polygons, if there is any segmentation; else boxes.
    """

    def __init__(self, folder: Path, splits: Splits, *, masks: bool) -> None:
        masks = masks and any(annotations.segmentations is not None for annotations in splits.values())
        super().__init__(folder, splits, masks=masks)
        self._names = {}
        for split in splits:
            used: set[str] = set()
            self._names[split] = self.unique_names(split, used, by_stem=True)
            (folder / "labels" / split).mkdir(parents=True)
        self._evidence = {split: KeypointEvidence() for split in splits}

    def image_file(self, split: str, index: int) -> Path:
        """Return images/{split}/{name}."""
        return Path("images", split, self._names[split][index])

    def add(self, split: str, index: int) -> None:
        """Write the text file of an image."""
        annotations = self.splits[split]
        objects = annotations.object_slice(index)
        height, width = annotations.sizes[index].tolist()
        lines: dict[str, None] = {}
        for i, box in zip(range(objects.start, objects.stop), self.clipped_boxes(split, index), strict=True):
            if annotations.crowd[i]:
                self.changes["crowds left out, since YOLO has none"] += 1
                continue
            points = self._polygon(split, i, box, height, width) if self.masks else _center_and_size(box)
            relative = points.reshape(-1, 2) / (width, height)
            words = (f"{value:.{DIGITS}f}".rstrip("0").rstrip(".") for value in relative.ravel().tolist())
            line = " ".join([str(annotations.labels[i] - 1), *words])
            if self.masks:
                self._evidence[split].add(relative.ravel().tolist(), "")
            if line in lines:
                self.changes["objects left out that equal another one of their image"] += 1
            lines[line] = None
        label = label_in_labels_folder(self.image_file(split, index))
        assert label is not None  # the path starts with images/
        file = self.folder / label
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def finish(self) -> None:
        """Write data.yaml."""
        record: dict[str, Any] = {split: f"images/{split}" for split in self.splits}
        record["names"] = dict(enumerate(self.classes))
        if any(evidence.shape() is not None for evidence in self._evidence.values()):
            record["task"] = "segment"  # else the polygons could be taken for boxes with keypoints
        text = yaml.safe_dump(record, sort_keys=False, allow_unicode=True)
        (self.folder / "data.yaml").write_text(text, encoding="utf-8")

    def lost(self) -> list[str]:
        """Return the lines of all formats, and those about ids."""
        lines = super().lost()
        ids = next(iter(self.splits.values())).category_ids
        if ids.tolist() != list(range(1, len(ids) + 1)):
            lines.append("the ids of the classes are lost: YOLO numbers them from 0")
        return lines

    def _polygon(
        self, split: str, index: int, box: NDArray[np.float64], height: int, width: int
    ) -> NDArray[np.float64]:
        """Return the polygon (P, 2) of object ``index`` in pixels; the rectangle of its box if it has none."""
        segmentations = self.splits[split].segmentations
        segmentation = None if segmentations is None else segmentations[index]
        polygon = None
        if find_segmentation_fault(segmentation, height, width) is None:
            polygon = to_polygon(segmentation, height, width)
        if polygon is not None:
            polygon = polygon.clip(0, (width, height))
        if polygon is None or not np.ptp(polygon, axis=0).all():  # a box without area could not be trained on
            self.changes["objects without a segmentation that can be drawn, written as the rectangle of their box"] += 1
            x, y, w, h = box.tolist()
            return np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]])
        self.note_shift(box, np.array([polygon.min(axis=0), polygon.max(axis=0)]))
        return polygon


def _center_and_size(box: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([box[:2] + box[2:] / 2, box[2:]])
