"""Small data sets on disk for the tests of this folder."""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def coco_dict() -> dict[str, Any]:
    """Three images (the second is empty) of 20 x 30 px, sparse ids, objects in no order, one crowd."""
    images = [{"id": i, "file_name": f"{i}.png", "height": 20, "width": 30} for i in (30, 7, 12)]
    annotations: list[dict[str, Any]] = [
        {"id": 5, "image_id": 12, "category_id": 90, "bbox": [1.5, 2, 3.25, 4], "area": 7.5, "iscrowd": 0},
        {"id": 9, "image_id": 30, "category_id": 3, "bbox": [0, 0, 30, 20]},
        {"id": 2, "image_id": 30, "category_id": 44, "bbox": [4, 5, 6, 7], "area": 40, "iscrowd": 1},
    ]
    annotations[0]["segmentation"] = [[1.5, 2, 4.75, 2, 4.75, 6.1, 1.5, 6]]
    annotations[2]["segmentation"] = {"size": [20, 30], "counts": [5, 40, 555]}
    names = {90: "toothbrush", 3: "car", 44: "bottle"}
    categories = [{"id": i, "name": name} for i, name in names.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


class Folder:
    """Writes data sets below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def image(self, name: str, height: int = 20, width: int = 30, **options: Any) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        seed = zlib.crc32(name.encode("utf-8", "surrogatepass"))
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, **options)
        return path

    def json(self, name: str, data: Any) -> Path:
        """Write JSON, or a string as it is."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(data if isinstance(data, str) else json.dumps(data))
        return path

    def coco(self, data: dict[str, Any], split: str = "train") -> str:
        """Write COCO's own layout, with every image."""
        self.json(f"annotations/instances_{split}2017.json", data)
        for image in data["images"]:
            self.image(f"{split}2017/{image['file_name']}")
        return str(self.root)

    def voc(self, files: dict[str, str], **splits: list[str]) -> str:
        """Write VOC layout with an image for each of ``files`` (stem: objects in XML)."""
        size = "<size><width>30</width><height>20</height></size>"
        for stem, objects in files.items():
            self.json(f"Annotations/{stem}.xml", f"<annotation>{size}{objects}</annotation>")
            self.image(f"JPEGImages/{stem}.jpg")
        for split, stems in splits.items():
            self.json(f"ImageSets/Main/{split}.txt", "".join(f"{stem}\n" for stem in stems))
        return str(self.root)

    def yolo(self, files: dict[str, str | None], names: object = ("cat", "dog"), split: str = "train") -> Path:
        """Write data.yaml and an image of 20 x 30 px for each of ``files`` (name: lines, ``None`` for no file)."""
        for name, lines in files.items():
            self.image(f"images/{split}/{name}.png")
            if lines is not None:
                self.json(f"labels/{split}/{name}.txt", lines)
        text = json.dumps({split: f"images/{split}", "names": names})
        return self.json("data.yaml", text)  # JSON is YAML

    @staticmethod
    def voc_object(name: str, box: tuple[object, ...], extra: str = "") -> str:
        sides = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        bounds = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
        return f"<object><name>{name}</name>{extra}<bndbox>{bounds}</bndbox></object>"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)
