from collections.abc import Callable
from typing import Any

import pytest
import torch

from drfpn.evaluation.misreadings import find_misreadings

Row = dict[str, Any]


def make_data(images: int = 12, classes: int = 3, objects: int = 3, seed: int = 0) -> tuple[list[Row], dict[str, Any]]:
    """Return right detections and the ground truth of images of 120 x 160 pixels with ids 10, 20, ..."""
    generator = torch.Generator().manual_seed(seed)
    annotations, results = [], []
    for image in range(images):
        for number in range(objects):
            width, height = torch.randint(12, 50, (2,), generator=generator).tolist()
            x = int(torch.randint(0, 160 - width, (), generator=generator))
            y = int(torch.randint(0, 120 - height, (), generator=generator))
            row = {"image_id": 10 * (image + 1), "category_id": 1 + (image + number) % classes}
            annotations.append(row | {"bbox": [x, y, width, height], "iscrowd": 0})
            results.append(row | {"bbox": [x + 1.0, y + 0.5, width - 1.0, height + 1.0], "score": 0.6})
        results.append({"image_id": 10 * (image + 1), "category_id": 1, "bbox": [0.0, 0.0, 15.0, 9.0], "score": 0.1})
    return results, {
        "images": [{"id": 10 * (k + 1), "file_name": f"{k}.jpg", "width": 160, "height": 120} for k in range(images)],
        "annotations": annotations,
        "categories": [{"id": k, "name": str(k)} for k in range(1, classes + 1)],
    }


def changed(results: list[Row], change: Callable[[Row], Row]) -> list[Row]:
    return [row | change(row) for row in results]


def boxed(change: Callable[[float, float, float, float], list[float]]) -> Callable[[Row], Row]:
    return lambda row: {"bbox": change(*row["bbox"])}


@pytest.mark.parametrize("classes", [1, 2, 3])
@pytest.mark.parametrize("images", [1, 2, 12])
def test_right_results_are_not_doubted(classes, images) -> None:
    results, truth = make_data(images, classes)
    assert find_misreadings(results, truth) == []
    assert find_misreadings(results[: len(results) // 2 + 1], truth) == []
    del truth["annotations"]
    assert find_misreadings(results, truth) == []
    assert find_misreadings([], truth) == []


def test_right_results_of_objects_at_the_same_place_or_of_one_class_are_not_doubted() -> None:
    results, truth = make_data(2, 2)
    for rows in (results, truth["annotations"]):
        for k, row in enumerate(rows):
            row["bbox"] = [40.0 * (k % 3), 30.0, 30.0, 40.0]
    assert find_misreadings(results, truth) == []
    assert find_misreadings([row for row in results if row["category_id"] == 1], truth) == []
    one_class = changed(results, lambda row: {"category_id": 1})  # every second class is wrong
    assert find_misreadings(one_class, truth) == []


READINGS = {
    "x1, y1, x2, y2": lambda x, y, w, h: [x, y, x + w, y + h],
    "seems to be the center": lambda x, y, w, h: [x + w / 2, y + h / 2, w, h],
    "relative to the size of the image, as x, y, width": lambda x, y, w, h: [x / 160, y / 120, w / 160, h / 120],
    "relative to the size of the image, as x1": lambda x, y, w, h: [x / 160, y / 120, (x + w) / 160, (y + h) / 120],
    "relative to the size of the image, as the center": lambda x, y, w, h: [
        (x + w / 2) / 160,
        (y + h / 2) / 120,
        w / 160,
        h / 120,
    ],
}


@pytest.mark.parametrize("text", READINGS)
@pytest.mark.parametrize("images", [1, 12])
def test_boxes_in_another_format_are_recognized_by_the_objects(text, images) -> None:
    results, truth = make_data(images)
    (reading,) = find_misreadings(changed(results, boxed(READINGS[text])), truth)
    assert text in reading.text
    assert reading.certain is (images == 12 or "relative" in text)  # an error needs more objects


def test_a_poor_detection_of_a_single_object_is_no_error() -> None:
    image = {"id": 1, "file_name": "a.png", "width": 640, "height": 480}
    row = {"image_id": 1, "category_id": 1}
    truth = {
        "images": [image],
        "annotations": [row | {"bbox": [300, 200, 60, 60], "iscrowd": 0}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (reading,) = find_misreadings([row | {"bbox": [330.0, 230.0, 60.0, 60.0], "score": 0.6}], truth)
    assert not reading.certain


@pytest.mark.parametrize(
    ("text", "certain"), [("x1, y1, x2, y2", False), ("relative to the size of the image, as x1", True)]
)
def test_boxes_in_another_format_are_recognized_without_objects(text, certain) -> None:
    results, truth = make_data()
    del truth["annotations"]
    (reading,) = find_misreadings(changed(results, boxed(READINGS[text])), truth)
    assert text.partition(", as")[0] in reading.text
    assert reading.certain is certain


@pytest.mark.parametrize(("high", "text"), [(90, "in percent"), (3.5, "in percent"), (-2, "no probabilities")])
def test_scores_out_of_range_are_a_warning(high, text) -> None:
    results, truth = make_data()
    results[0]["score"] = high
    (reading,) = find_misreadings(results, truth)
    assert text in reading.text
    assert not reading.certain


def test_classes_that_are_one_too_low_or_high_are_recognized_by_the_objects() -> None:
    results, truth = make_data(classes=5)
    results = [row for row in results if row["score"] > 0.5]
    low = [
        row for row in changed(results, lambda row: {"category_id": row["category_id"] - 1}) if row["category_id"] > 0
    ]
    (reading,) = find_misreadings(low, truth)
    assert "no detection has the last category" in reading.text
    assert "one too low (classes numbered from 0), with which 100% have it" in reading.text
    assert reading.certain
    high = changed(results, lambda row: {"category_id": row["category_id"] + 1})
    (reading,) = find_misreadings([row for row in high if row["category_id"] < 6], truth)
    assert "one too high (classes numbered from 1)" in reading.text
    (reading,) = find_misreadings(low[:2], truth)
    assert not reading.certain


def test_results_of_other_images_are_a_warning() -> None:
    results, truth = make_data()
    others = changed(results, lambda row: {"image_id": 130 - row["image_id"]})
    (reading,) = find_misreadings(others, truth)
    assert "image ids seem to be of another data set" in reading.text
    few = [row for row in results if row["image_id"] <= 40]
    (reading,) = find_misreadings(few, truth)
    assert reading.text == "only 4 of 12 images with objects have a detection"
    large = changed(results, boxed(lambda x, y, w, h: [4 * x, 4 * y, 4 * w, 4 * h]))
    (reading,) = find_misreadings(large, truth)
    assert "begin outside of their image" in reading.text
    assert not reading.certain


@pytest.mark.parametrize(("shift", "word"), [(10, "high"), (-10, "low")])
@pytest.mark.parametrize("images", [4, 12])
def test_image_ids_that_are_one_too_high_or_low_are_recognized_by_the_objects(shift, word, images) -> None:
    results, truth = make_data(images)
    known = {image["id"] for image in truth["images"]}
    truth["images"].reverse()  # the order in the file says nothing
    shifted = changed(results, lambda row: {"image_id": row["image_id"] + shift})
    (reading,) = find_misreadings([row for row in shifted if row["image_id"] in known], truth)
    assert f"image ids seem to be one too {word}" in reading.text
    assert reading.certain is (images == 12)


def test_a_few_overlaps_by_chance_do_not_hide_image_ids_of_another_data_set() -> None:
    results, truth = make_data(20)
    others = changed(results, lambda row: {"bbox": [0.0, 0.0, 4.0, 4.0]})
    others[0] = results[0]
    (reading,) = find_misreadings(others, truth)
    assert "2% of the objects overlap a detection of their image" in reading.text
    assert not reading.certain


@pytest.mark.parametrize(("size", "found"), [(0.0, "0"), (-3.0, "negative")])
def test_boxes_without_an_area_are_named(size, found) -> None:
    results, truth = make_data()
    (reading,) = find_misreadings(changed(results, boxed(lambda x, y, w, h: [x, y, size, h])), truth)
    assert reading.text.startswith(f"in {len(results)} of {len(results)} detections")
    assert f"the width or height of bbox is {found}: they overlap no object" in reading.text
    assert not reading.certain
