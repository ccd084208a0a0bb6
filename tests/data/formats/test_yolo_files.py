import json
import os
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from drfpn.data import check_dataset, open_dataset
from drfpn.data.formats.layouts import find_layout
from drfpn.data.formats.yolo import read_yolo
from drfpn.utils.errors import UserError

NFC, NFD = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
LINE = "0 0.5 0.5 0.5 0.5\n"


def test_one_label_file_for_two_images_is_refused(folder: Any) -> None:
    data = folder.yolo({"a": LINE, "b": LINE})
    folder.image("images/train/a.jpg")
    with pytest.raises(UserError, match=r"labels/train/a\.txt: it belongs to both 'a\.jpg' and 'a\.png'"):
        read_yolo(data, "train")


def test_images_without_labels_may_have_the_same_stem(folder: Any) -> None:
    data = folder.yolo({"a": None, "b": LINE})
    folder.image("images/train/a.jpg")
    assert read_yolo(data, "train").file_names.tolist() == ["a.jpg", "a.png", "b.png"]


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/train/a.png", "Labels/train/a.txt"),
        ("Images/train/a.png", "labels/train/a.txt"),
        ("JPEGImages/a.png", "labels/a.txt"),  # as darknet does with VOC
        ("images/train/A.png", "labels/train/a.txt"),
        (f"images/train/{NFD}.png", f"labels/train/{NFC}.txt"),
    ],
)
def test_labels_are_found_in_other_letter_case_and_unicode_form(folder: Any, image: str, label: str) -> None:
    folder.image(image)
    folder.json(label, LINE)
    source = str(Path(image).parent)
    annotations = read_yolo(folder.json("data.yaml", json.dumps({"train": source, "names": ["cat"]})), "train")
    assert len(annotations.boxes) == 1
    assert annotations.annotation_file(0).samefile(folder.root / label)


@pytest.mark.parametrize(("image", "label"), [("a b", "a_b"), ("a-b", "a b"), ("a", "0f3c91aa-a")])
def test_a_label_file_with_nearly_the_name_of_an_image_is_named(folder: Any, image: str, label: str) -> None:
    data = folder.yolo({image: None, "c": LINE})
    folder.json(f"labels/train/{label}.txt", LINE)
    with pytest.raises(UserError, match=rf"{label}\.txt: it belongs to no image, and '{image}\.png' has no annotation"):
        read_yolo(data, "train")
    issues = {issue.kind: issue.count for issue in check_dataset(str(data), ["train"])}
    assert issues["label-name-differs"] == 1


def test_linked_folders_are_followed(folder: Any, tmp_path: Path) -> None:
    data = folder.yolo({"a": LINE})
    folder.image("elsewhere/images/b.png")
    folder.json("elsewhere/labels/b.txt", LINE)
    os.symlink(tmp_path / "elsewhere/images", tmp_path / "images/train/more")
    os.symlink(tmp_path / "elsewhere/labels", tmp_path / "labels/train/more")
    os.symlink(tmp_path / "images/train", tmp_path / "images/train/itself")  # not followed for ever
    annotations = read_yolo(data, "train")
    assert annotations.file_names.tolist() == ["a.png", "more/b.png"]
    assert annotations.starts.tolist() == [0, 1, 2]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_lists_of_windows_editors_are_read(folder: Any, encoding: str) -> None:
    folder.yolo({"a": LINE, "é": LINE})
    text = "images\\train\\a.png  \r\nimages/train/é.png\r\n\r\n"
    (folder.root / "train.txt").write_bytes(text.encode(encoding))
    data = folder.json("data.yaml", "train: train.txt\nnames: [cat]\n")
    assert len(read_yolo(data, "train").boxes) == 2


@pytest.mark.parametrize("prefix", ["data/", "/content/darknet/data/", "/home/me/set/", "images/../"])
def test_lists_with_paths_of_another_computer_are_read(folder: Any, prefix: str) -> None:
    folder.root = folder.root / "set"
    folder.yolo({"a": LINE})
    folder.json("train.txt", f"{prefix}images/train/a.png\n")
    data = folder.json("data.yaml", "train: train.txt\nnames: [cat]\n")
    assert len(read_yolo(data, "train").boxes) == 1


def test_a_path_that_may_be_inside_or_outside_is_refused(folder: Any) -> None:
    folder.image("train/images/other.png")
    folder.root = folder.root / "set"
    folder.image("train/images/a.png")
    folder.json("train/labels/a.txt", LINE)
    data = folder.json("data.yaml", "train: ../train/images\nval: ../valid/images\nnames: [cat]\n")
    with pytest.raises(UserError, match=r"'\.\./train/images' may be .*/train/images or .*/set/train/images"):
        read_yolo(data, "train")


def test_roboflow_exports_are_read(folder: Any) -> None:
    for split in ("train", "valid"):
        folder.image(f"{split}/images/a_jpg.rf.0123.jpg")
        folder.json(f"{split}/labels/a_jpg.rf.0123.txt", LINE)
    folder.json(
        "data.yaml", "train: ../train/images\nval: ../valid/images\nnc: 1\nnames: ['cat']\nroboflow:\n  version: 1"
    )
    for split in ("train", "val"):
        assert open_dataset(str(folder.root), split).num_objects() == 1


def test_all_label_files_of_a_split_are_listed(folder: Any) -> None:
    folder.yolo({"a": LINE, "sub/b": LINE})
    folder.json("labels/train/unused.txt", LINE)
    folder.json("labels/train/classes.txt", "cat\n")
    layout = find_layout(str(folder.root))
    names = sorted(path.relative_to(folder.root).as_posix() for path in layout.label_files("train"))
    assert names == ["labels/train/a.txt", "labels/train/sub/b.txt", "labels/train/unused.txt"]


def test_labels_may_be_in_another_place_for_each_folder_of_images(folder: Any) -> None:
    for image, label in (
        ("A/images/a.png", "A/labels/a.txt"),
        ("B/b.png", "B/b.txt"),
        ("C/images/c.png", "C/images/c.txt"),
    ):
        folder.image(image)
        folder.json(label, LINE)
    data = folder.json("data.yaml", {"train": ["A/images", "B", "C/images"], "names": ["cat"]})
    assert read_yolo(data, "train").starts.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("label", ["labels/a.txt", "images/train/site/a.txt", "labels/train/other/a.txt"])
def test_a_label_file_in_another_folder_than_expected_is_refused(folder: Any, label: str) -> None:
    data = folder.yolo({"site/a": None, "site/b": LINE})
    folder.json(label, LINE)
    expected = r"'a\.png' has no annotation file: only their folders differ, expected '.*labels/train/site/a\.txt'"
    with pytest.raises(UserError, match=expected):
        read_yolo(data, "train")
    kinds = {issue.kind: issue.severity for issue in check_dataset(str(data), ["train"])}
    assert kinds["label-name-differs"] == "error"


def test_label_files_of_other_images_and_other_text_are_no_misplaced_labels(folder: Any) -> None:
    data = folder.yolo({"one/a": None, "two/a": LINE})
    folder.json("images/train/one/a.txt", "a caption\n")
    assert read_yolo(data, "train").starts.tolist() == [0, 0, 1]


def test_a_label_file_that_is_a_broken_link_is_refused(folder: Any) -> None:
    data = folder.yolo({"a": LINE, "b": None})
    os.symlink("nowhere.txt", folder.root / "labels/train/b.txt")
    with pytest.raises(UserError, match=r"b\.txt is a link to 'nowhere\.txt', which does not exist"):
        read_yolo(data, "train")


@pytest.mark.parametrize(
    ("path", "train"),
    [
        ("../datasets/set", "images/train"),
        ("/content/drive/set", "images/train"),
        (None, "/content/set/images/train"),
        (None, "C:\\\\data\\\\images\\\\train"),
        (None, "Images/Train"),
        (None, "list.txt"),
    ],
)
def test_yaml_files_and_lists_of_another_computer_are_read(folder: Any, path: str | None, train: str) -> None:
    folder.yolo({"a": LINE})
    folder.json("list.txt", "/home/someone/project/images/train/a.png\n")
    record = {"train": train, "names": ["cat"]} | ({"path": path} if path else {})
    assert len(read_yolo(folder.json("data.yaml", record), "train").boxes) == 1


def test_the_folder_of_a_split_is_not_left_out(folder: Any) -> None:
    folder.image("images/a.png")
    folder.json("labels/a.txt", LINE)
    data = folder.json("data.yaml", {"train": "/content/train/images", "names": ["cat"]})
    with pytest.raises(UserError, match=r"train is '/content/train/images', which does not exist"):
        read_yolo(data, "train")
