import json
from typing import Any

import pytest

from drfpn.data import check_dataset, convert, open_dataset, stats
from drfpn.utils.errors import UserError


@pytest.fixture
def renumber(folder: Any, coco_dict: Any) -> Any:
    """Function that writes train, and val with other names by id, and returns the path."""

    def renumber(ids: dict[str, int]) -> str:
        folder.coco(coco_dict)
        val = json.loads(json.dumps(coco_dict))
        names = {category["id"]: category["name"] for category in val["categories"]}
        val["categories"] = [{"id": category_id, "name": name} for name, category_id in ids.items()]
        val["annotations"] = [a for a in val["annotations"] if names[a["category_id"]] in ids]
        for annotation in val["annotations"]:
            annotation["category_id"] = ids[names[annotation["category_id"]]]
        return folder.coco(val, "val")

    return renumber


CLASSES = ("car", "bottle", "toothbrush")


@pytest.mark.parametrize(
    "ids",
    [
        {"car": 2, "bottle": 43, "toothbrush": 89},
        {"car": 90, "bottle": 44, "toothbrush": 3},
        {"toothbrush": 1, "unused": 2, "car": 3, "bottle": 4},
    ],
)
def test_labels_of_a_split_are_matched_by_name(renumber: Any, ids: dict[str, int]) -> None:
    dataset = open_dataset(renumber(ids), "val", classes=CLASSES)
    assert dataset.classes == CLASSES
    assert dataset.category_ids == tuple(ids[name] for name in CLASSES)
    assert dataset[0][1]["labels"].tolist() == [1]
    assert dataset[2][1]["labels"].tolist() == [3]
    truth = dataset.ground_truth()
    names = {category["id"]: category["name"] for category in truth["categories"]}
    assert [names[annotation["category_id"]] for annotation in truth["annotations"]] == ["car", "bottle", "toothbrush"]


def test_missing_class_gets_an_id_of_its_own(renumber: Any) -> None:
    lines: list[str] = []
    dataset = open_dataset(renumber({"toothbrush": 7}), "val", classes=CLASSES, warn=lines.append)
    assert "not in both lists: bottle, car" in lines[0]
    assert dataset.classes == CLASSES
    assert len(set(dataset.category_ids)) == 3
    assert dataset.category_ids[2] == 7
    assert dataset[2][1]["labels"].tolist() == [3]


@pytest.mark.parametrize("classes", [("car", "bottle"), ("x", "y", "z"), ("car", "car", "bottle", "toothbrush")])
def test_objects_of_other_classes_are_refused(renumber: Any, classes: tuple[str, ...]) -> None:
    data = renumber({"car": 3, "bottle": 44, "toothbrush": 90})
    with pytest.raises(UserError, match="has the classes car, bottle, toothbrush, expected"):
        open_dataset(data, "val", classes=classes)


def test_check_warns_of_other_ids(renumber: Any) -> None:
    issues = {i.kind: i for i in check_dataset(renumber({"car": 2, "bottle": 44, "toothbrush": 90}), ["train", "val"])}
    assert issues["classes-matched"].severity == "warning"
    assert "'car' has the ids 3 and 2" in issues["classes-matched"].examples[0]
    assert "classes-differ" not in issues


def test_check_reports_objects_of_another_class(folder: Any, coco_dict: Any) -> None:
    folder.coco(coco_dict)
    coco_dict["categories"][1]["name"] = "Car "
    issues = {issue.kind: issue for issue in check_dataset(folder.coco(coco_dict, "val"), ["train", "val"])}
    assert "val has objects of 'Car ', which is no class of train ('car' is)" in issues["classes-differ"].examples[0]


def test_check_warns_of_names_that_are_nearly_the_same(folder: Any, coco_dict: Any) -> None:
    coco_dict["categories"][0]["name"] = " Car"
    issues = {issue.kind: issue for issue in check_dataset(folder.coco(coco_dict), ["train"])}
    assert "'car' and ' Car' differ in letter case or spaces only" in issues["similar-class-name"].examples[0]


@pytest.mark.parametrize("name", ["", " "])
def test_check_warns_of_classes_without_a_name(folder: Any, coco_dict: Any, name: str) -> None:
    coco_dict["categories"][0]["name"] = name
    issues = {issue.kind: issue for issue in check_dataset(folder.coco(coco_dict), ["train"])}
    assert f"the name of a class is {name!r}" in issues["empty-class-name"].examples[0]


def test_classes_of_one_name_in_yolo_are_one_class(folder: Any) -> None:
    lines: list[str] = []
    data = str(folder.yolo({"a": "0 0.5 0.5 0.2 0.2\n2 0.3 0.3 0.2 0.2\n1 0.6 0.3 0.2 0.2"}, names=["a", "b", "a"]))
    dataset = open_dataset(data, warn=lines.append)
    assert dataset.classes == ("a", "b")
    assert dataset[0][1]["labels"].tolist() == [1, 1, 2]
    assert stats(dataset)["objects_per_class"] == {"a": 2, "b": 1}
    assert "the categories 1 and 3 are all called 'a'" in lines[0]


def test_converted_splits_have_one_order_of_classes(renumber: Any, tmp_path: Any) -> None:
    convert(renumber({"car": 90, "bottle": 44, "toothbrush": 3}), "yolo", tmp_path / "out")
    train, val = (
        [file.read_text() for file in sorted((tmp_path / "out").rglob(f"labels/{split}/*.txt"))]
        for split in ("train", "val")
    )
    assert train == val
