from pathlib import Path
from typing import Any

import pytest

from drfpn.data import check_dataset, open_dataset
from drfpn.utils.errors import UserError

BOX = "0 0.5 0.5 0.2 0.2\n"


@pytest.fixture
def yolo(folder: Any) -> Path:
    data = folder.yolo(dict.fromkeys(("a", "b", "c", "d e"), BOX))
    write(data, train="a.png\nb.png\n", val="c.png\nd e.png\n")
    return data


def write(data: Path, **lists: str) -> None:
    folder = data.with_suffix(".splits")
    folder.mkdir(exist_ok=True)
    for name, text in lists.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")


def names(data: Path, split: str) -> list[str]:
    return open_dataset(str(data), split).annotations.file_names.tolist()


def kinds(data: Path) -> dict[str, str]:
    return {issue.kind: issue.examples[0] for issue in check_dataset(str(data))}


def test_lists_may_have_a_byte_order_mark_other_line_ends_and_no_suffix(yolo: Path) -> None:
    write(yolo, val="\ufeffc\r\n\r\nd e.png  \r\n")
    assert names(yolo, "train") == ["a.png", "b.png"]
    assert names(yolo, "val") == ["c.png", "d e.png"]
    assert "unused-image" not in kinds(yolo)


def test_a_line_without_an_image_is_an_error(yolo: Path) -> None:
    write(yolo, train="a.png\nbb.png\n")
    with pytest.raises(UserError, match=r"train\.txt: it lists 'bb\.png', which is not an image of the data set"):
        open_dataset(str(yolo))
    assert "'bb.png'" in kinds(yolo)["listed-image-missing"]


def test_a_list_without_any_image_is_an_error(yolo: Path) -> None:
    write(yolo, val="\n")
    with pytest.raises(UserError, match=r"val\.txt: it lists no image of the data set"):
        open_dataset(str(yolo), "val")


def test_images_in_two_lists_and_in_none_are_said(yolo: Path) -> None:
    write(yolo, train="a.png\n", val="a.png\nc.png\n")
    messages: list[str] = []
    open_dataset(str(yolo), warn=messages.append)
    assert any("a.png: it is in the lists of train and val" in message for message in messages)
    assert any("it is in no list of" in message and "2 such" in message for message in messages)
    found = kinds(yolo)
    assert "a.png" in found["image-in-two-splits"]
    assert "b.png: it is in no list" in found["unlisted-image"]
    assert "unused-image" not in found


def test_lists_are_not_used_where_the_data_set_has_its_own_splits(folder: Any, yolo: Path) -> None:
    folder.image("images/val/v.png")
    folder.json("labels/val/v.txt", BOX)
    folder.json("data.yaml", {"train": "images/train", "val": "images/val", "names": ["cat", "dog"]})
    assert len(names(yolo, "train")) == 4
