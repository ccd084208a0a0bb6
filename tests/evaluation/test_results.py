from pathlib import Path
from typing import Any

import pytest

from drfpn.evaluation.results import check_results, read_results
from drfpn.utils.errors import UserError

TRUTH: dict[str, Any] = {
    "images": [
        {"id": 3, "file_name": "val/000000000139.jpg", "height": 100, "width": 100},
        {"id": 4, "file_name": "val/cat.jpg", "height": 100, "width": 100},
    ],
    "categories": [{"id": 1, "name": "cat", "merged_ids": [9]}, {"id": 2, "name": "dog"}],
    "annotations": [],
}


def row(**changes: Any) -> dict[str, Any]:
    return {"image_id": 3, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5} | changes


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(image_id="cat")], r"not 'cat': it is the name of a file, the id of that image is 4\."),
        ([row(image_id="val/cat.jpg")], "the id of that image is 4"),
        ([row(image_id="139")], "the id of that image is 3"),
        ([row(image_id="4")], r"not '4': write 4\."),
        ([row(image_id="x")], r"not 'x'\.$"),
        ([row(image_id=139)], "They are the numbers in the names of files, not the ids"),
        ([row(image_id=0), row(image_id=1)], "seem to be numbered from 0, the ids of the annotations are 3 to 4"),
        ([row(category_id=0), row(category_id=1)], "seem to be numbered from 0, .* id 1 is the first category, not 0"),
        ([row(category_id=3)], r"unknown ids of category\.$"),
    ],
)
def test_ids_of_other_tools_are_explained(rows, message) -> None:
    with pytest.raises(UserError, match=message):
        check_results(Path("r.json"), rows, TRUTH, masks=False)


def test_detections_of_a_merged_category_count_for_the_one_that_is_left() -> None:
    checked = check_results(Path("r.json"), [row(category_id=9), row(category_id=2)], TRUTH, masks=False)
    assert [each["category_id"] for each in checked] == [1, 2]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["1", "2"], "write 1 if it is the id, 2 if it is the name of a file"),
        (["1", "3"], r"not '1': write 1\."),  # there is no file 3
        (["1", "0"], "the name of a file, the id of that image is 2"),  # there is no id 0
        (["0001", "0000"], "the name of a file, the id of that image is 2"),
    ],
)
def test_text_ids_that_may_be_ids_and_names_are_judged_by_all_of_them(texts, message) -> None:
    images = [{"id": k + 1, "file_name": f"{k:04d}.png", "height": 100, "width": 100} for k in range(3)]
    rows = [row(image_id=text) for text in texts]
    with pytest.raises(UserError, match=message):
        check_results(Path("r.json"), rows, TRUTH | {"images": images}, masks=False)


@pytest.mark.parametrize("empty", [None, []])
def test_boxes_with_an_empty_mask_are_boxes(empty) -> None:
    (checked,) = check_results(Path("r.json"), [row(segmentation=empty)], TRUTH, masks=False)
    assert checked == row()
    mask = {"size": [100, 100], "counts": [0, 200, 9800]}
    (checked,) = check_results(Path("r.json"), [row(segmentation=mask, bbox=empty)], TRUTH, masks=True)
    assert checked["bbox"] == [0, 0, 2, 100]
    with pytest.raises(UserError, match="bbox of entry 0 must be 4 numbers"):
        check_results(Path("r.json"), [row(segmentation=empty, bbox=empty)], TRUTH, masks=False)


def test_a_byte_order_mark_is_no_fault(tmp_path) -> None:
    (tmp_path / "r.json").write_bytes(b"\xef\xbb\xbf[]")
    assert read_results(tmp_path / "r.json") == []
