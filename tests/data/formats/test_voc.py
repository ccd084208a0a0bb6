from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drfpn.data.formats.voc import read_voc
from drfpn.data.formats.voc_files import voc_sources
from drfpn.utils.errors import UserError


@pytest.fixture
def voc(folder: Any) -> Path:
    box = folder.voc_object
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    files = {
        "b": box("dog", (2, 3, 11, 20)) + box("cat", (0, 0, 30, 20), "<difficult>1</difficult>"),
        "a": box("person", ("4.0", "5", "4", "5"), part),
        "c": "",
        "d": box("zebra", (1, 1, 30, 20)),
    }
    folder.voc(files, train=["c", "b"], val=["a"], trainval=["a", "b", "c", "d"])
    (folder.root / "ImageSets/Main/dog_train.txt").write_text("b  1\nc -1\n")
    return folder.root


def test_boxes_are_inclusive_and_count_from_one(voc: Path) -> None:
    annotations = read_voc(voc, "train")
    assert annotations.starts.tolist() == [0, 0, 2]
    # xmin 2 .. xmax 11 are ten pixels, the first of which starts at 1; 0 is read as 0
    np.testing.assert_array_equal(annotations.boxes, [[1, 2, 10, 18], [0, 0, 30, 20]])
    np.testing.assert_array_equal(annotations.areas, [180, 600])
    np.testing.assert_array_equal(annotations.sizes, [[20, 30]] * 2)
    np.testing.assert_array_equal(read_voc(voc, "val").boxes, [[3, 4, 1, 1]])


def test_difficult_objects_are_ignored_like_crowds(voc: Path) -> None:
    assert read_voc(voc, "train").crowd.tolist() == [False, True]


def test_classes_and_ids_agree_between_splits(voc: Path) -> None:
    train, val, both = (read_voc(voc, split) for split in ("train", "val", "trainval"))
    assert train.classes == val.classes == both.classes == ("cat", "dog", "person", "zebra")
    assert train.labels.tolist() == [2, 1]
    assert train.file_names.tolist() == ["c.jpg", "b.jpg"]
    ids = dict(zip(both.file_names.tolist(), both.image_ids.tolist(), strict=True))
    assert ids == {"a.jpg": 1, "b.jpg": 2, "c.jpg": 3, "d.jpg": 4}
    assert train.image_ids.tolist() == [3, 2]


def test_lists_of_one_class_are_not_splits(voc: Path) -> None:
    assert tuple(voc_sources(voc)) == ("train", "trainval", "val")
    with pytest.raises(UserError, match=r"no tra\.txt.*train, trainval, val.*Did you mean 'train'"):
        read_voc(voc, "tra")


def test_other_suffixes_are_recognized(voc: Path) -> None:
    (voc / "JPEGImages/b.jpg").rename(voc / "JPEGImages/b.PNG")
    assert read_voc(voc, "train").path(1).name == "b.PNG"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation>", r"b\.xml: it is not XML"),
        (None, r"b\.xml: there is no such file"),
        ("<annotation><object><name>dog</name></object></annotation>", r"b\.xml: object 1 \(dog\): it has no <bndbox>"),
        (
            "<annotation><object><bndbox/></object></annotation>",
            r"b\.xml: object 1 \(without a name\): it has no <name>",
        ),
        (
            "<annotation><object><name>dog</name><bndbox/></object></annotation>",
            r"its <xmin> is None, expected a number",
        ),
    ],
)
def test_an_invalid_record_is_reported_with_its_file(voc: Path, text: str | None, message: str) -> None:
    file = voc / "Annotations/b.xml"
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    with pytest.raises(UserError, match=message):
        read_voc(voc, "train")


def test_empty_split_is_refused(voc: Path) -> None:
    (voc / "ImageSets/Main/val.txt").write_text("\n")
    with pytest.raises(UserError, match=r"val\.txt: it lists no image"):
        read_voc(voc, "val")


def test_real_data_is_read(assets: Path) -> None:
    counts = {split: len(read_voc(assets / "voc", split)) for split in ("train", "val", "test")}
    assert counts == {"train": 6, "val": 3, "test": 3}
    ids = np.concatenate([read_voc(assets / "voc", split).image_ids for split in counts])
    assert sorted(ids.tolist()) == list(range(1, 13))


def test_a_namespace_is_no_part_of_the_names_of_elements(folder: Any) -> None:
    data = folder.voc({"a": folder.voc_object("cat", (2, 3, 11, 20))}, train=["a"])
    file = folder.root / "Annotations/a.xml"
    file.write_text(file.read_text().replace("<annotation>", '<annotation xmlns="http://example.com">'))
    assert read_voc(data, "train").boxes.tolist() == [[1, 2, 10, 18]]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("annotation>", "annotations>"),
        ("object>", "Object>"),
        ("object>", "objects>"),
        ("<object>", "<objects><object>"),
    ],
)
def test_objects_that_would_not_be_reached_are_refused(folder: Any, old: str, new: str) -> None:
    data = folder.voc(dict.fromkeys("ab", folder.voc_object("cat", (2, 3, 11, 20))), train=["a", "b"])
    file = folder.root / "Annotations/a.xml"
    text = file.read_text().replace(old, new)
    file.write_text(text.replace("</object>", "</object></objects>") if new == "<objects><object>" else text)
    message = r"a\.xml: (its root is <annotations>|it has 1 <bndbox> outside of the <object> of its <annotation>)"
    with pytest.raises(UserError, match=message):
        read_voc(data, "train")


def test_difficult_may_be_true(folder: Any) -> None:
    box = folder.voc_object("cat", (2, 3, 11, 20), "<difficult>True</difficult>")
    assert read_voc(folder.voc({"a": box}, train=["a"]), "train").crowd.tolist() == [True]
