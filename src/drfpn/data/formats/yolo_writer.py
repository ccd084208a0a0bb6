"""Writing YOLO's layout."""

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from drfpn.data.formats.writer import TOLD_FROM, Splits, Writer, image_name, unique
from drfpn.data.formats.yolo_yaml import label_beside_images
from drfpn.data.masks.polygons import Loop, join, signed_area, trace
from drfpn.data.masks.rle import decode
from drfpn.data.validation.masks import find_fault

DIGITS = 8
"""Decimals of a share of the image: 1e-4 px of an image of 10,000."""


class YoloWriter(Writer):
    """data.yaml, images/{split}/ and labels/{split}/, as Ultralytics' tools read them.

    With masks every line is a polygon, since those tools do not read boxes and polygons from one file: several
    polygons of an object become one with bridges of no width, run-length encoded masks their outline, which draws
    the same pixels, and an object without a segmentation the rectangle of its box.
    """

    def __init__(self, folder: Path, splits: Splits, *, masks: bool) -> None:
        masks = masks and any(annotations.segmentations is not None for annotations in splits.values())
        super().__init__(folder, splits, masks=masks)
        self._names = {}
        self._moved: list[float] = []
        for split, annotations in splits.items():
            taken: set[str] = set()
            wanted = map(image_name, annotations.file_names.tolist())
            self._names[split] = [unique(name, taken, by_stem=True) for name in wanted]
            (folder / "labels" / split).mkdir(parents=True)

    def image_file(self, split: str, index: int) -> Path:
        """Return images/{split}/{name}."""
        return Path("images", split, self._names[split][index])

    def add(self, split: str, index: int) -> None:
        """Write the text file of an image."""
        annotations = self.splits[split]
        objects = annotations.objects(index)
        height, width = annotations.sizes[index].tolist()
        lines: dict[str, None] = {}
        for place, box in zip(range(objects.start, objects.stop), self.boxes_inside(split, index), strict=True):
            if annotations.crowd[place]:
                self.losses["crowd regions left out, since YOLO has none"] += 1
                continue
            numbers = self._outline(split, place, box, height, width) if self.masks else _centred(box)
            shares = numbers.reshape(-1, 2) / (width, height)
            words = (f"{share:.{DIGITS}f}".rstrip("0").rstrip(".") for share in shares.ravel().tolist())
            line = " ".join([str(annotations.labels[place] - 1), *words])
            if line in lines:
                self.losses["objects left out that equal another one of their image"] += 1
            lines[line] = None
        label = label_beside_images(self.image_file(split, index))
        assert label is not None  # the path begins with images/
        file = self.folder / label
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def finish(self) -> None:
        """Write data.yaml."""
        record: dict[str, Any] = {split: f"images/{split}" for split in self.splits}
        record["names"] = dict(enumerate(self.classes))
        text = yaml.safe_dump(record, sort_keys=False, allow_unicode=True)
        (self.folder / "data.yaml").write_text(text, encoding="utf-8")

    def lost(self) -> list[str]:
        """Return the lines of all formats, and what became of boxes and ids."""
        lines = super().lost()
        if self._moved:
            lines.append(
                f"boxes that became those of their polygons, up to {max(self._moved):.2g} px apart (--no-masks keeps "
                f"them): {len(self._moved)}"
            )
        ids = next(iter(self.splits.values())).category_ids
        if ids.tolist() != list(range(1, len(ids) + 1)):
            lines.append("the ids of the classes are lost: YOLO numbers them from 0")
        return lines

    def _outline(
        self, split: str, place: int, box: NDArray[np.float64], height: int, width: int
    ) -> NDArray[np.float64]:
        """Return the polygon (P, 2) of an object in pixels."""
        segmentations = self.splits[split].segmentations
        segmentation = None if segmentations is None else segmentations[place]
        polygon = None
        if find_fault(segmentation, height, width) is None:
            polygon = as_polygon(segmentation, height, width)
        if polygon is not None:
            polygon = polygon.clip(0, (width, height))
        if polygon is None or not np.ptp(polygon, axis=0).all():  # a box of no size could not be trained on
            self.losses["objects without a segmentation that can be drawn, written as the rectangle of their box"] += 1
            x, y, w, h = box.tolist()
            return np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]])
        its_box = np.concatenate([polygon.min(axis=0), np.ptp(polygon, axis=0)])
        moved = float(np.abs(its_box[:2] - box[:2]).max())
        moved = max(moved, float(np.abs(its_box[:2] + its_box[2:] - box[:2] - box[2:]).max()))
        if moved > TOLD_FROM:
            self._moved.append(moved)
        return polygon


def as_polygon(segmentation: Any, height: int, width: int) -> Loop | None:
    """Return one polygon (P, 2) in pixels that draws what a sound segmentation draws; ``None`` if that is nothing.

    Args:
        segmentation: Polygons or RLE of COCO.
        height: Of the image, in pixels.
        width: Of the image, in pixels.
    """
    if isinstance(segmentation, list):
        loops = [np.array(polygon, dtype=np.float64).reshape(-1, 2) for polygon in segmentation]
        if len(loops) == 1:
            return loops[0]
        joined = join([loop if signed_area(loop) >= 0 else loop[::-1] for loop in loops])
        mask = decode(segmentation, height, width)
        if np.array_equal(decode([joined.ravel().tolist()], height, width), mask):
            return joined
    else:
        mask = decode(segmentation, height, width)
    return join(trace(mask)) if mask.any() else None


def _centred(box: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([box[:2] + box[2:] / 2, box[2:]])
