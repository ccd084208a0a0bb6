from typing import Any

import pytest
from hotcoco import COCO

from drfpn.data import check_dataset, open_dataset
from drfpn.data.formats.layouts import find_layout
from drfpn.utils.errors import UserError

LABELS = "imagesource:GoogleEarth\ngsd:0.14\n10 3 20 8 15 18 5 13 plane 0\n1 1 4 1 4 5 1 5 ship 1\n"


def write(folder: Any, place: str = "train/", labels: str = "labelTxt") -> str:
    folder.image(f"{place}images/P0.png")
    folder.json(f"{place}{labels}/P0.txt", LABELS)
    return str(folder.root)


@pytest.mark.parametrize("labels", ["labelTxt", "labelTxt-v1.5"])
def test_boxes_are_hulls_and_difficult_objects_crowds(folder: Any, labels: str) -> None:
    data = write(folder, labels=labels)
    dataset = open_dataset(data, masks=True)
    assert dataset.classes == ("plane", "ship")
    target = dataset[0][1]
    assert target["boxes"].tolist() == [[5, 3, 20, 18]]
    assert target["area"].tolist() == [125]
    assert target["masks"].sum().item() == pytest.approx(125, abs=10)
    assert [a["iscrowd"] for a in dataset.ground_truth()["annotations"]] == [0, 1]
    assert open_dataset(data, crowd="object")[0][1]["labels"].tolist() == [1, 2]


def test_boxes_are_those_of_hotcoco(folder: Any) -> None:
    data = write(folder)
    expected = COCO.from_dota(f"{data}/train/labelTxt").dataset["annotations"]
    annotations = open_dataset(data).to_annotations()
    for box, annotation in zip(annotations.boxes, expected, strict=True):
        assert box.tolist() == pytest.approx(annotation["bbox"])
    assert annotations.crowd.tolist() == [bool(annotation["iscrowd"]) for annotation in expected]


def test_folders_without_splits_are_one(folder: Any) -> None:
    layout = find_layout(write(folder, place=""))
    assert layout.splits == ("all",)
    assert layout.label_files("all") == (folder.root / "labelTxt/P0.txt",)
    assert layout.image_folders("all") == (folder.root / "images",)


def test_classes_are_those_of_all_splits(folder: Any) -> None:
    write(folder)
    folder.image("val/images/P1.png")
    folder.json("val/labelTxt/P1.txt", "1 1 4 1 4 5 1 5 ship 0\n")
    assert open_dataset(str(folder.root), "val")[0][1]["labels"].tolist() == [2]


def test_image_without_labels_is_left_out_with_a_word(folder: Any) -> None:
    data = write(folder)
    folder.image("train/images/P9.png")
    lines: list[str] = []
    assert len(open_dataset(data, warn=lines.append)) == 1
    assert "1 of 2 images have no label file and are left out (P9.png)" in lines[0]


@pytest.mark.parametrize("line", ["1 1 4 1 4 5 1 5", "1 1 4 1 4 5 1 x ship 0", "1 1 4 1 4 5 1 5 ship hard"])
def test_an_invalid_line_is_reported_with_its_number(folder: Any, line: str) -> None:
    data = write(folder)
    folder.json("train/labelTxt/P0.txt", f"{LABELS}{line}\n")
    issues = {issue.kind: issue for issue in check_dataset(data, ["train"])}
    assert "P0.txt: line 5" in issues["bad-record"].examples[0]


def test_two_images_of_one_label_file_are_refused(folder: Any) -> None:
    data = write(folder)
    folder.image("train/images/P0.bmp")
    with pytest.raises(UserError, match=r"P0\.txt: several images have its name: P0\.bmp, P0\.png"):
        open_dataset(data)


def test_labels_that_are_not_utf8_are_refused(folder: Any) -> None:
    data = write(folder)
    (folder.root / "train/labelTxt/P0.txt").write_bytes("1 1 4 1 4 5 1 5 кот 0\n".encode("cp1251"))
    with pytest.raises(UserError, match=r"P0\.txt: it is not UTF-8"):
        open_dataset(data)


def test_images_and_labels_one_folder_deeper_are_found(folder: Any) -> None:
    folder.image("train/images/part1/P0.png")
    folder.json("train/labelTxt-v1.5/train/P0.txt", f"acquisition dates:2016-05-04\n{LABELS}")
    annotations = open_dataset(str(folder.root)).to_annotations()
    assert annotations.file_names.tolist() == ["part1/P0.png"]
    assert len(annotations.boxes) == 2


def test_two_label_files_of_one_image_are_refused(folder: Any) -> None:
    folder.image("train/images/P0.png")
    for kind in ("hbb", "obb"):
        folder.json(f"train/labelTxt/{kind}/P0.txt", LABELS)
    with pytest.raises(UserError, match=r"'obb/P0\.txt' and 'hbb/P0\.txt' are of one image"):
        open_dataset(str(folder.root))
