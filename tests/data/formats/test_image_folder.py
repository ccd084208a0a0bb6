import json
import re
from pathlib import Path
from typing import Any

import pytest

from drfpn.data import check_dataset, open_dataset
from drfpn.data.formats.image_folder import parse_image_folder
from drfpn.data.formats.layouts import find_layout
from drfpn.data.validation.issues import Issue
from drfpn.utils.errors import UserError

README = """---
dataset_info:
  features:
  - name: image
    dtype: image
  - name: objects
    sequence:
    - name: category
      dtype:
        class_label:
          names:
            '0': bolt
            '1': nut
            '2': screw
---
# Parts
"""


def write(folder: Any, name: str, *lines: Any) -> Path:
    return folder.json(name, "".join(json.dumps(line) + "\n" for line in lines))


def line(name: str, boxes: Any, categories: Any, **more: Any) -> dict[str, Any]:
    return {"file_name": name, "objects": {"bbox": boxes, "categories": categories}, **more}


def test_splits_in_folders_are_read(folder: Any) -> None:
    write(folder, "train/metadata.jsonl", line("a.png", [[1, 2, 3, 4], [5, 6, 7, 8]], ["nut", "bolt"]))
    write(folder, "validation/metadata.jsonl", line("b.png", [], []), line("c.png", [[1.5, 2, 3, 4]], ["nut"]))
    for name in ("train/a", "validation/b", "validation/c"):
        folder.image(f"{name}.png")
    data = str(folder.root)
    assert find_layout(data).splits == ("train", "val")
    train, val = open_dataset(data), open_dataset(data, "val", classes=("bolt", "nut"))
    assert train.classes == val.classes == ("bolt", "nut")
    assert train[0][1]["boxes"].tolist() == [[1, 2, 4, 6], [5, 6, 12, 14]]
    assert train[0][1]["labels"].tolist() == [2, 1]
    assert [len(val[i][1]["boxes"]) for i in range(2)] == [0, 1]
    assert not [issue for issue in check_dataset(data) if issue.severity == "error"]


def test_one_file_for_all_splits_is_divided_by_folders(folder: Any) -> None:
    write(
        folder, "metadata.jsonl", line("train/a.png", [[1, 2, 3, 4]], ["x"]), line("test/b.png", [[5, 6, 7, 8]], ["x"])
    )
    folder.image("train/a.png")
    folder.image("test/b.png")
    assert find_layout(str(folder.root)).splits == ("train", "test")
    assert open_dataset(str(folder.root), "test")[0][1]["boxes"].tolist() == [[5, 6, 12, 14]]
    assert len(open_dataset(str(folder.root))) == 1


def test_images_in_no_folder_of_a_split_are_a_split_of_their_own(folder: Any) -> None:
    lines = [line(name, [[1, 2, 3, 4]], ["x"]) for name in ("train/a.png", "b.png", "more/c.png")]
    write(folder, "metadata.jsonl", *lines)
    for name in ("train/a.png", "b.png", "more/c.png"):
        folder.image(name)
    said: list[str] = []
    assert len(open_dataset(str(folder.root), warn=said.append)) == 1
    assert "2 images are in no folder of a split; they are the split 'others'" in said[0]
    others = open_dataset(str(folder.root), "others").to_annotations()
    assert others.file_names.tolist() == ["b.png", "more/c.png"]


@pytest.mark.parametrize("first", [{"file_name": "b.png"}, {"file_name": "b.png", "objects": None}])
def test_image_with_null_or_missing_objects_has_none(folder: Any, first: dict[str, Any]) -> None:
    write(folder, "metadata.jsonl", first, line("a.png", [[1, 2, 3, 4]], ["x"]))
    for name in ("a.png", "b.png"):
        folder.image(name)
    lines: list[str] = []
    dataset = open_dataset(str(folder.root), "all", warn=lines.append)
    assert [len(dataset[i][1]["boxes"]) for i in range(2)] == [0, 1]
    assert ("lines without 'objects'" in "".join(lines)) == ("objects" not in first)


def test_text_that_is_not_utf8_is_refused(folder: Any) -> None:
    text = json.dumps(line("a.png", [[1, 2, 3, 4], [2, 2, 4, 4]], ["кот", "дом"]), ensure_ascii=False)
    (folder.root / "metadata.jsonl").write_bytes(text.encode("cp1251"))
    folder.image("a.png")
    with pytest.raises(UserError, match="line 1 is not UTF-8"):
        open_dataset(str(folder.root), "all")


def test_folder_without_splits_is_one(folder: Any) -> None:
    file = write(folder, "metadata.jsonl", line("a.png", [[1, 2, 3, 4]], ["x"]))
    folder.image("a.png")
    for data in (folder.root, file):
        assert len(open_dataset(str(data), "all")) == 1


def test_numbers_have_the_names_in_the_readme(folder: Any) -> None:
    folder.json("README.md", README)
    write(folder, "train/metadata.jsonl", line("a.png", [[1, 2, 3, 4]], [2]))
    folder.image("train/a.png")
    lines: list[str] = []
    dataset = open_dataset(str(folder.root), warn=lines.append)
    assert dataset.classes == ("bolt", "nut", "screw")
    assert dataset[0][1]["labels"].tolist() == [3]
    assert not lines


SCENE = """  - name: scene
    dtype:
      class_label:
        names: [indoor, outdoor]
"""


def test_names_are_those_of_the_objects_not_of_the_image(folder: Any) -> None:
    folder.json("README.md", README.replace("  features:\n", f"  features:\n{SCENE}"))
    write(folder, "train/metadata.jsonl", line("a.png", [[1, 2, 3, 4]], [1]))
    folder.image("train/a.png")
    assert open_dataset(str(folder.root)).classes == ("bolt", "nut", "screw")


def test_several_lists_of_names_without_objects_are_refused(folder: Any) -> None:
    folder.json("README.md", README.replace("  features:\n", f"  features:\n{SCENE}").replace("objects", "things"))
    write(folder, "train/metadata.jsonl", line("a.png", [[1, 2, 3, 4]], [1]))
    folder.image("train/a.png")
    assert open_dataset(str(folder.root)).classes == ("bolt", "nut", "screw")  # the feature is called category
    folder.json("README.md", (folder.root / "README.md").read_text().replace("category", "kind"))
    with pytest.raises(UserError, match=r"its features 'scene', 'things\.kind' have different names"):
        open_dataset(str(folder.root))


def test_numbers_without_names_are_their_names_with_a_word(folder: Any) -> None:
    write(folder, "train/metadata.jsonl", line("a.png", [[1, 2, 3, 4], [2, 2, 3, 4]], [7, 3]))
    folder.image("train/a.png")
    lines: list[str] = []
    dataset = open_dataset(str(folder.root), warn=lines.append)
    assert (dataset.classes, dataset.category_ids) == (("3", "7"), (3, 7))
    assert "its classes are numbers" in lines[0]


@pytest.mark.parametrize(
    "objects",
    [
        [{"bbox": [1, 2, 3, 4], "category": "x", "area": 5}],
        {"bbox": [[1, 2, 3, 4]], "category": ["x"], "area": [5], "id": [9]},
        {"bboxes": [[1, 2, 3, 4]], "labels": ["x"], "area": [5]},
    ],
)
def test_other_forms_of_objects_are_read(folder: Any, objects: Any) -> None:
    file = write(folder, "metadata.jsonl", {"file_name": "a.png", "width": 30, "height": 20, "objects": objects})
    annotations = parse_image_folder(file, folder.root, pytest.fail)
    assert annotations is not None
    assert (annotations.boxes.tolist(), annotations.areas.tolist()) == ([[1, 2, 3, 4]], [5])
    assert annotations.sizes.tolist() == [[20, 30]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "line 2: it is '{'"),
        ("[1]", r"line 2: it is '\[1\]'"),
        ('{"file_name": "b.png", "objects": 3}', "line 2: its objects have no boxes or no categories"),
        ('{"file_name": "b.png", "objects": {"bbox": [[1, 2, 3, 4]], "categories": []}}', "line 2: its objects"),
        ('{"file_name": "b.png", "objects": {"bbox": [[1, 2, 3, 4]]}}', "line 2: its objects"),
        ('{"objects": {"bbox": [], "categories": []}}', "its id is 2 and its file_name None"),
        ('{"file_name": "b.png", "objects": {"bbox": [[1, 2, 3]], "categories": ["x"]}}', r"its bbox is \[1, 2, 3\]"),
        ('{"file_name": "b.png", "objects": {"bbox": [[1, 2, 3, 4]], "categories": [1]}}', "some classes are names"),
        ('{"file_name": "b.png", "objects": {"bbox": [[1, 2, 3, 4]], "categories": [null]}}', "category_id is None"),
    ],
)
def test_an_invalid_line_is_reported_and_does_not_hide_the_others(folder: Any, text: str, message: str) -> None:
    file = folder.json("metadata.jsonl", json.dumps(line("a.png", [[1, 2, 3, 4]], ["x"])) + f"\n{text}\n")
    issues: list[Issue] = []
    annotations = parse_image_folder(file, folder.root, issues.append)
    assert annotations is not None
    assert annotations.boxes.tolist()[0] == [1, 2, 3, 4]
    (issue,) = [issue for issue in issues if issue.kind == "bad-record"][:1]
    assert re.search(message, issue.summary)
