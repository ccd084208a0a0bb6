from pathlib import Path
from typing import Any

import pytest
from hotcoco import COCO

from drfpn.data import open_dataset
from drfpn.data.formats.layouts import find_layout
from drfpn.data.formats.open_images import parse_open_images
from drfpn.data.validation.issues import Issue

HEADER = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n"
)
ROWS = (
    "a,xclick,/m/02,1,0.1,0.4,0.25,0.75,0,0,0,0,0\n"
    "a,xclick,/m/01,1,0.5,1,0,0.5,0,0,1,0,0\n"
    "gone,xclick,/m/01,1,0.5,1,0,0.5,0,0,0,0,0\n"
)
NAMES = "/m/01,Beer\n/m/02,Dog\n"


@pytest.fixture
def file(folder: Any) -> Path:
    folder.image("train/a.jpg")
    folder.json("class-descriptions-boxable.csv", NAMES)
    return folder.json("train-annotations-bbox.csv", HEADER + ROWS)


def test_boxes_are_scaled_to_the_images_on_disk(folder: Any, file: Path) -> None:
    lines: list[str] = []
    assert find_layout(str(folder.root)).splits == ("train",)
    for data in (folder.root, file):
        dataset = open_dataset(str(data), warn=lines.append)
        assert dataset.classes == ("Beer", "Dog")
        assert len(dataset) == 1
        target = dataset[0][1]
        assert target["boxes"].tolist() == [pytest.approx([3, 5, 12, 15])]
        assert target["labels"].tolist() == [2]
        assert [a["iscrowd"] for a in dataset.ground_truth()["annotations"]] == [0, 1]  # a group
    assert "1 of 2 images are not in" in lines[0]


def test_images_one_folder_deeper_are_found(folder: Any, file: Path) -> None:
    (folder.root / "train/a.jpg").unlink()
    folder.image("train/0/a.jpg")
    assert open_dataset(str(folder.root)).to_annotations().file_names.tolist() == ["0/a.jpg"]  # type: ignore[attr-defined]


def test_boxes_are_those_of_hotcoco(folder: Any, file: Path) -> None:
    expected = COCO.from_oid(str(file), images_dir=str(folder.root / "train")).dataset["annotations"][:2]
    annotations = open_dataset(str(folder.root)).to_annotations()  # type: ignore[attr-defined]
    for box, annotation in zip(annotations.boxes, expected, strict=True):
        assert box.tolist() == pytest.approx(annotation["bbox"])


def test_layout_of_fiftyone_is_read(folder: Any) -> None:
    folder.image("validation/data/a.jpg")
    folder.json("validation/metadata/classes.csv", NAMES)
    folder.json("validation/labels/detections.csv", HEADER + ROWS)
    assert open_dataset(str(folder.root), "val").classes == ("Beer", "Dog")


def test_file_that_is_another_csv_is_refused(folder: Any) -> None:
    issues: list[Issue] = []
    file = folder.json("a.csv", "x,y\n1,2\n")
    assert parse_open_images(file, folder.root, issues.append) is None
    assert issues[0].kind == "not-annotations"
