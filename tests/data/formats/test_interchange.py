"""Data sets that ``convert`` writes, read by other tools."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drfpn.data import convert
from drfpn.data.annotations import Annotations
from drfpn.data.formats.layouts import find_layout
from drfpn.data.validation.issues import raise_issue

TOLERANCE = 1e-3

Boxes = dict[str, list[tuple[str, list[float]]]]
"""Class and x1, y1, x2, y2 of the objects of each image, in order of the boxes."""


@pytest.fixture(params=["made", "real"])
def data(request: Any, folder: Any, coco_dict: Any, tmp_path: Path) -> Path:
    """A data set in COCO's format without crowds and with boxes in fractions of a pixel, and one of photos."""
    if request.param == "real":
        return request.getfixturevalue("assets") / "coco"
    folder.root = tmp_path / "data"
    coco_dict["annotations"].pop()
    coco_dict["annotations"][0] |= {"bbox": [1.234567, 2.345678, 3.456789, 4.567891], "segmentation": None}
    coco_dict["annotations"].append({"id": 3, "image_id": 7, "category_id": 44, "bbox": [0.1, 0.2, 29.7, 19.6]})
    return Path(folder.coco(coco_dict))


def original(data: Path) -> Boxes:
    annotations = read(data)
    keep = ~annotations.crowd
    return boxes_of(annotations.select_objects(keep))


def read(data: Path) -> Annotations:
    annotations = find_layout(str(data)).read("train", raise_issue)
    assert annotations is not None
    return annotations


def boxes_of(annotations: Annotations) -> Boxes:
    found: Boxes = {name: [] for name in annotations.file_names.tolist()}
    for index, image in enumerate(annotations.image_indices().tolist()):
        x, y, w, h = annotations.boxes[index].tolist()
        name = annotations.classes[annotations.labels[index] - 1]
        found[str(annotations.file_names[image])].append((name, [x, y, x + w, y + h]))
    return found


def assert_same(actual: Boxes, expected: Boxes, tolerance: float = TOLERANCE) -> None:
    assert sorted(actual) == sorted(expected)
    for image, rows in expected.items():
        by_box, expected_by_box = (sorted(objects, key=lambda row: np.round(row[1], 2).tolist())
                                   for objects in (actual[image], rows))  # fmt: skip
        assert [name for name, _ in by_box] == [name for name, _ in expected_by_box]
        boxes, expected_boxes = (np.array([box for _, box in objects]) for objects in (by_box, expected_by_box))
        np.testing.assert_allclose(boxes, expected_boxes, rtol=0, atol=tolerance)


def from_supervision(dataset: Any) -> Boxes:
    found: Boxes = {}
    for path, _, detections in dataset:
        names = [dataset.classes[index] for index in detections.class_id] if len(detections) else []
        found[Path(path).name] = list(zip(names, detections.xyxy.tolist(), strict=True))
    return found


def test_coco_is_read_alike_by_pycocotools(data: Path, tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    convert(str(data), "coco", tmp_path / "out")
    dataset = coco.COCO(str(tmp_path / "out/annotations/instances_train2017.json"))
    found: Boxes = {}
    for image in dataset.loadImgs(dataset.getImgIds()):
        rows = dataset.loadAnns(dataset.getAnnIds(imgIds=image["id"], iscrowd=False))
        names = [dataset.loadCats(row["category_id"])[0]["name"] for row in rows]
        boxes = [[x, y, x + w, y + h] for x, y, w, h in (row["bbox"] for row in rows)]
        found[image["file_name"]] = list(zip(names, boxes, strict=True))
    assert_same(found, original(data), 0)


@pytest.mark.parametrize("to", ["coco", "yolo", "voc", "labelme"])
def test_data_sets_are_read_alike_by_supervision(data: Path, tmp_path: Path, to: str) -> None:
    sv = pytest.importorskip("supervision")
    out = tmp_path / "out"
    if read(data).crowd.any() and to == "coco":  # supervision takes crowds for objects
        convert(str(data), "yolo", tmp_path / "plain", masks=False)
        convert(str(tmp_path / "plain"), "coco", out)
    else:
        convert(str(data), to, out, masks=False)
    if to == "coco":
        file = out / "annotations/instances_train2017.json"
        dataset = sv.DetectionDataset.from_coco(str(out / "train2017"), str(file))
    elif to == "yolo":
        dataset = sv.DetectionDataset.from_yolo(
            str(out / "images/train"), str(out / "labels/train"), str(out / "data.yaml")
        )
    elif to == "voc":
        stems = {Path(name).stem for name in read(data).file_names.tolist()}
        for file in [*(out / "JPEGImages").iterdir(), *(out / "Annotations").iterdir()]:
            if file.stem not in stems:
                file.unlink()  # of the other splits, whose lists supervision does not read
        dataset = sv.DetectionDataset.from_pascal_voc(str(out / "JPEGImages"), str(out / "Annotations"))
    else:
        dataset = sv.DetectionDataset.from_labelme(str(out / "train"), str(out / "train"))
    expected = original(data)
    if to == "voc":  # crowds are marked difficult, which supervision takes for objects
        expected = boxes_of(read(data))
    assert_same(from_supervision(dataset), expected)


def test_labelme_is_read_by_labelme_itself(data: Path, tmp_path: Path) -> None:
    labelme = pytest.importorskip("labelme._label_file")
    convert(str(data), "labelme", tmp_path / "out")
    found: Boxes = {}
    for file in (tmp_path / "out/train").rglob("*.json"):
        record = labelme.LabelFile(str(file))
        rows: dict[Any, tuple[str, list[float]]] = {}
        for number, shape in enumerate(record.shapes):
            points = np.array(shape["points"], dtype=float)
            if shape["mask"] is not None:
                assert shape["mask"].shape == tuple(np.ptp(points, axis=0).astype(int)[::-1] + 1)
                points += np.array([[0.0, 0.0], [1.0, 1.0]])
            key = number if shape["group_id"] is None else f"group {shape['group_id']}"
            if key in rows:
                points = np.concatenate([points, np.array(rows[key][1]).reshape(2, 2)])
            rows[key] = shape["label"], [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]
        found[record.image_path] = list(rows.values())
    # The boxes are those of the masks.
    assert_same(found, boxes_of(read(tmp_path / "out")))


def test_image_folders_are_read_alike_by_datasets(data: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    convert(str(data), "imagefolder", tmp_path / "out")
    rows = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    lines = (tmp_path / "out/train/metadata.jsonl").read_text().splitlines()
    names = [json.loads(line)["file_name"] for line in lines]
    found: Boxes = {name: [] for name in names}
    for row in rows["train"].cast_column("image", datasets.Image(decode=False)):
        objects = row["objects"]
        boxes = [[x, y, x + w, y + h] for x, y, w, h in objects["bbox"]]
        kept = [not crowd for crowd in objects["iscrowd"]]
        found[Path(row["image"]["path"]).name] = [
            pair for pair, keep in zip(zip(objects["categories"], boxes, strict=True), kept, strict=True) if keep
        ]
    assert_same(found, original(data))
