from typing import Any

import pytest

from drfpn.data.formats.layouts import find_layout
from drfpn.data.formats.yolo_folders import read_yolo_folder
from drfpn.data.validation.issues import raise_issue
from drfpn.utils.errors import UserError

LINE = "1 0.5 0.5 0.5 0.5\n"

LAYOUTS = {
    "Label Studio's export": (["images/a.png"], ["labels/a.txt"], "classes.txt", ["all"]),
    "images and text in one folder": (["a.png"], ["a.txt"], "classes.txt", ["all"]),
    "labelImg with a folder of its own": (["a.png"], ["labels/a.txt"], "labels/classes.txt", ["all"]),
    "other names of folders": (["Imgs/a.png"], ["Labels/a.txt"], "obj.names", ["all"]),
    "splits below": (
        ["images/train/a.png", "images/val/b.png"],
        ["labels/train/a.txt", "labels/val/b.txt"],
        "classes.txt",
        ["train", "val"],
    ),
    "splits above": (
        ["train/images/a.png", "valid/images/b.png", "test/images/c.png"],
        ["train/labels/a.txt", "valid/labels/b.txt", "test/labels/c.txt"],
        "classes.txt",
        ["train", "val", "test"],
    ),
    "Roboflow's Darknet": (
        ["train/a.png", "valid/b.png"],
        ["train/a.txt", "valid/b.txt"],
        "train/_darknet.labels",
        ["train", "val"],
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_folders_without_a_yaml_file_are_read(folder: Any, name: str) -> None:
    images, labels, names_file, splits = LAYOUTS[name]
    for image in images:
        folder.image(image)
    for label in labels:
        folder.json(label, LINE)
    folder.json(names_file, "cat\nhot dog\n")
    layout = find_layout(str(folder.root))
    assert list(layout.splits) == splits
    for split in splits:
        annotations = layout.read(split, raise_issue)
        assert annotations is not None
        assert annotations.classes == ("cat", "hot dog")
        assert annotations.boxes.tolist() == [[7.5, 5, 15, 10]]
        assert annotations.labels.tolist() == [2]


def test_an_export_of_cvat_with_obj_data_is_read(folder: Any) -> None:
    folder.image("obj_train_data/a.png")
    folder.json("obj_train_data/a.txt", LINE)
    folder.json("obj.data", "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n")
    folder.json("obj.names", "cat\ndog\n")
    folder.json("train.txt", "data/obj_train_data/a.png\n")
    layout = find_layout(str(folder.root))
    annotations = layout.read("train", raise_issue)
    assert annotations is not None
    assert annotations.classes == ("cat", "dog")
    assert len(annotations.boxes) == 1
    (folder.root / "obj.names").unlink()
    with pytest.raises(UserError, match=r"obj\.names does not exist"):
        read_yolo_folder(folder.root)


def test_names_of_classes_are_required_and_must_agree(folder: Any) -> None:
    folder.image("images/a.png")
    folder.json("labels/a.txt", LINE)
    with pytest.raises(UserError, match=r"without names of their classes, expected classes\.txt"):
        find_layout(str(folder.root))
    folder.json("classes.txt", "cat\n")
    with pytest.raises(UserError, match=r"its class id is 1, expected 0 to 0, as classes\.txt names 1 class"):
        find_layout(str(folder.root)).read("all", raise_issue)
    folder.json("labels/classes.txt", "cat\ndog\n")
    with pytest.raises(UserError, match="hold different names of classes"):
        find_layout(str(folder.root))


def test_other_text_files_are_no_labels(folder: Any) -> None:
    folder.image("a.png")
    folder.json("a.txt", "a cat on a mat\n")
    folder.json("b.txt", "1 2 3 4\n")
    assert read_yolo_folder(folder.root) is None


def test_an_empty_line_between_names_is_refused_and_those_at_the_end_are_not(folder: Any) -> None:
    folder.image("a.png")
    folder.json("a.txt", LINE)
    folder.json("classes.txt", "cat\ndog\n\n \n")
    config = read_yolo_folder(folder.root)
    assert config is not None
    assert config.classes == ("cat", "dog")
    folder.json("classes.txt", "cat\n\ndog\n")
    with pytest.raises(UserError, match=r"classes\.txt: line 2 is empty, expected the name of class 1"):
        read_yolo_folder(folder.root)


def test_names_in_another_encoding_are_refused(folder: Any) -> None:
    folder.image("a.png")
    folder.json("a.txt", LINE)
    (folder.root / "classes.txt").write_bytes("cat\né\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"classes\.txt is not text in UTF-8 \(line 2\)"):
        read_yolo_folder(folder.root)
