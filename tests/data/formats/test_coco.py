import contextlib
import io
import json
import pickle
import time
from pathlib import Path
from typing import Any

import hotcoco
import numpy as np
import pytest
from pycocotools.coco import COCO

from drfpn.data.formats.coco import read_coco
from drfpn.utils.errors import UserError


@pytest.fixture
def read(folder: Any) -> Any:
    return lambda data: read_coco(folder.json("a.json", data), folder.root)


def by_id(records: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    return {record["id"]: record for record in records}


def test_sparse_ids_become_labels_in_the_order_of_the_ids(read: Any, coco_dict: Any) -> None:
    annotations = read(coco_dict)
    assert annotations.classes == ("car", "bottle", "toothbrush")
    assert annotations.category_ids.tolist() == [3, 44, 90]
    assert annotations.image_ids.tolist() == [30, 7, 12]
    assert annotations.starts.tolist() == [0, 2, 2, 3]
    assert annotations.labels.tolist() == [1, 2, 3]
    assert annotations.annotation_ids.tolist() == [9, 2, 5]
    assert annotations.crowd.tolist() == [False, True, False]
    assert annotations.areas.tolist() == [600, 40, 7.5]  # the first has none: width times height
    np.testing.assert_array_equal(annotations.boxes[2], [1.5, 2, 3.25, 4])
    np.testing.assert_array_equal(annotations.sizes, [[20, 30]] * 3)


def test_ground_truth_equals_the_file(read: Any, coco_dict: Any) -> None:
    ground_truth = read(coco_dict).to_coco()
    assert ground_truth["images"] == coco_dict["images"]
    assert by_id(ground_truth["categories"]) == by_id(coco_dict["categories"])
    expected = by_id(coco_dict["annotations"])
    expected[9] |= {"area": 600, "iscrowd": 0}
    assert by_id(ground_truth["annotations"]) == expected


def test_first_takes_the_objects_of_the_first_images(read: Any, coco_dict: Any) -> None:
    ground_truth = read(coco_dict).first(2).to_coco()
    assert [image["id"] for image in ground_truth["images"]] == [30, 7]
    assert [annotation["id"] for annotation in ground_truth["annotations"]] == [9, 2]
    assert "segmentation" not in ground_truth["annotations"][0]
    assert ground_truth["annotations"][1]["segmentation"] == {"size": [20, 30], "counts": [5, 40, 555]}
    assert len(read(coco_dict).first(99)) == 3


def test_ids_that_are_missing_or_below_one_are_numbered_after_the_others(read: Any, coco_dict: Any) -> None:
    coco_dict["annotations"][0]["id"] = 0
    del coco_dict["annotations"][2]["id"]
    assert sorted(read(coco_dict).annotation_ids.tolist()) == [9, 10, 11]


def test_split_without_objects_is_read(read: Any, coco_dict: Any) -> None:
    annotations = read({**coco_dict, "annotations": []})
    assert annotations.boxes.shape == (0, 4)
    assert annotations.to_coco()["annotations"] == []


def test_can_be_pickled(read: Any, coco_dict: Any) -> None:
    annotations = read(coco_dict)
    assert pickle.loads(pickle.dumps(annotations)).to_coco() == annotations.to_coco()


def damage(data: Any, *path: Any, value: Any) -> Any:
    *parents, last = path
    for key in parents:
        data = data[key]
    data[last] = value


FIRST = ("annotations", 0)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("images",), [], r"'images' is empty, expected at least one image"),
        (("images",), {}, r"no list 'images'"),
        (("categories",), None, r"no list 'categories'"),
        (("categories",), [], r"'categories' is empty"),
        (("categories", 1, "id"), 90, r"id 90 is taken by 'toothbrush'"),
        (("categories", 0, "name"), 7, r"category 0 of the list: its id is 90 and its name 7"),
        (("images", 1, "id"), 30, r"image '7.png': id 30 belongs to '30.png' already"),
        (("images", 1, "id"), "x", r"image 1 of the list: its id is 'x'"),
        (("images", 0), 5, r"image 0 of the list"),
        ((*FIRST, "image_id"), 31, r"annotation 5: its image_id is 31, expected the id of one of the 3"),
        ((*FIRST, "category_id"), 4, r"annotation 5: its category_id is 4, expected .*\(3, 44, 90\)"),
        ((*FIRST, "category_id"), True, r"annotation 5: its category_id is True"),
        ((*FIRST, "id"), 9, r"annotation 1 of the list: id 9 belongs to an earlier"),
        ((*FIRST, "id"), "a", r"annotation a: its id is 'a'"),
        ((*FIRST, "bbox"), [1, 2, 3], r"annotation 5: its bbox is \[1, 2, 3\], expected four numbers"),
        ((*FIRST, "bbox"), ["1px", 2, 3, 4], r"annotation 5: its bbox"),
        ((*FIRST, "bbox"), 3, r"annotation 5: its bbox is 3"),
        ((*FIRST, "area"), "big", r"annotation 5: its area is 'big'"),
        ((*FIRST, "iscrowd"), 2, r"annotation 5: its iscrowd is 2"),
        (FIRST, 3, r"annotation 0 of the list: it is a JSON number"),
    ],
)
def test_an_invalid_record_is_reported_in_one_sentence(
    read: Any, coco_dict: Any, path: tuple[Any, ...], value: Any, message: str
) -> None:
    damage(coco_dict, *path, value=value)
    with pytest.raises(UserError, match=r"a\.json") as error:
        read(coco_dict)
    error.match(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "it is not JSON"),
        ("", "it is not JSON"),
        ("[" * 100000, "it is not JSON"),
        ("[]", "holds a JSON list"),
        ('{"info": 1}', r"no list 'images' \(its keys are info\)"),
    ],
)
def test_file_that_is_not_coco_is_refused(read: Any, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(text)


def test_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.json: there is no such file"):
        read_coco(tmp_path / "none.json", tmp_path)


@pytest.mark.parametrize("backend", ["pycocotools", "hotcoco"])
def test_backends_read_the_ground_truth_of_real_data(assets: Path, tmp_path: Path, backend: str) -> None:
    source = assets / "coco" / "annotations" / "instances_val2017.json"
    file = tmp_path / "ground_truth.json"
    ground_truth = read_coco(source, assets / "coco" / "val2017").to_coco()
    file.write_text(json.dumps(ground_truth))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(file)) if backend == "pycocotools" else hotcoco.COCO(str(file))
    assert len(coco.getAnnIds()) == 13
    original = by_id(json.loads(source.read_text())["annotations"])
    for annotation in ground_truth["annotations"]:
        assert annotation == {key: original[annotation["id"]][key] for key in annotation}
        assert annotation["segmentation"] == original[annotation["id"]]["segmentation"]


def test_time_grows_no_faster_than_the_file(read: Any) -> None:
    def seconds(count: int) -> float:
        images = [{"id": i, "file_name": f"{i}.jpg", "height": 9, "width": 9} for i in range(count)]
        box = {"category_id": 1, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0, "segmentation": [[1, 2, 3]]}
        annotations = [{"id": i + 1, "image_id": i // 3, **box} for i in range(3 * count)]
        data = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "x"}]}
        text = json.dumps(data)
        start = time.process_time()
        assert len(read(text)) == count
        return time.process_time() - start

    assert seconds(8000) < 5 * 8 * max(seconds(1000), 0.01)
