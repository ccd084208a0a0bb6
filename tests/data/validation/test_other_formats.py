import json
from typing import Any

import pytest

from drfpn.data import check_dataset, open_dataset

SHAPES = json.dumps({"shapes": [{}, {}], "imagePath": "a.png"})
XML = "<annotation><object></object><object></object></annotation>"
LINES = "0 .5 .5 .5 .5\n1 .2 .2 .1 .1\n"


def coco(count: int, crowds: int = 0) -> dict[str, Any]:
    """Return an image with objects, the last of which are crowds."""
    objects = [
        {"id": i + 1, "image_id": 1, "category_id": 1, "bbox": [i, 4, 5, 6], "iscrowd": int(i >= count - crowds)}
        for i in range(count)
    ]
    images = [{"id": 1, "file_name": "a.png", "height": 20, "width": 30}]
    return {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "bolt"}]}


@pytest.mark.parametrize(
    ("other", "text"),
    [
        ("images/train/a.json", SHAPES),
        ("images/train/a.xml", XML),
        ("images/train/a.txt", LINES),
        ("labels/train/a.txt", LINES),
    ],
)
@pytest.mark.parametrize(("objects", "crowds", "differ"), [(1, 0, True), (2, 0, False), (3, 1, False)])
def test_other_objects_in_another_format_are_reported(
    folder: Any, other: str, text: str, objects: int, crowds: int, differ: bool
) -> None:
    folder.image("images/train/a.png")
    folder.json("annotations/train.json", coco(objects, crowds))
    folder.json(other, text)
    lines: list[str] = []
    open_dataset(str(folder.root), warn=lines.append)
    assert any(f"objects of 'a.png': {objects} here, 2 in " in line and other in line for line in lines) == differ
    assert ("other-format" in {issue.kind for issue in check_dataset(str(folder.root), ["train"])}) == differ


@pytest.mark.parametrize("text", ["made by hand", "{}", "[1]", "{", "0 1 2"])
def test_other_text_beside_an_image_is_none(folder: Any, text: str) -> None:
    folder.image("images/train/a.png")
    folder.json("annotations/train.json", coco(1))
    for suffix in ("json", "xml", "txt"):
        folder.json(f"images/train/a.{suffix}", text)
    lines: list[str] = []
    open_dataset(str(folder.root), warn=lines.append)
    assert not lines
