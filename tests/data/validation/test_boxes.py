import math
from typing import Any

import numpy as np
import pytest

from drfpn.data.annotations import Annotations
from drfpn.data.formats.coco import read_coco
from drfpn.data.validation.boxes import clip_xywh, find_invalid_boxes, sanitize_boxes
from drfpn.utils.errors import UserError

BOXES = {
    "good": [3, 4, 5, 6],
    "whole image": [0, 0, 30, 20],
    "one pixel over": [-1, -1, 32, 22],
    "not a number": [math.nan, 0, 5, 5],
    "infinite": [0, 0, math.inf, 5],
    "no width": [3, 4, 0, 6],
    "negative": [3, 4, 5, -6],
    "right of the image": [30, 0, 5, 5],
    "above the image": [3, -5, 5, 5],
    "over the left": [-1.5, 2, 5, 5],
    "over the bottom": [2, 15, 5, 6.01],
}


@pytest.fixture
def annotations(folder: Any, coco_dict: Any) -> Annotations:
    """All of ``BOXES`` in the image with id 12, annotation ids from 1."""
    coco_dict["annotations"] = [
        {"id": i, "image_id": 12, "category_id": 3, "bbox": box, "segmentation": [[i] * 6]}
        for i, box in enumerate(BOXES.values(), start=1)
    ]
    return read_coco(folder.json("a.json", coco_dict), folder.root)


def names(mask: np.ndarray) -> list[str]:
    return [name for name, hit in zip(BOXES, mask, strict=True) if hit]


def test_each_issue_is_recognized(annotations: Annotations) -> None:
    assert {kind: names(mask) for kind, mask in find_invalid_boxes(annotations).items()} == {
        "box-nan": ["not a number", "infinite"],
        "box-without-area": ["no width", "negative"],
        "box-outside": ["right of the image", "above the image"],
        "box-reaches-out": ["over the left", "over the bottom"],
    }


def test_error_names_file_image_annotation_box_and_policies(annotations: Annotations) -> None:
    with pytest.raises(UserError) as error:
        sanitize_boxes(annotations, "error")
    for part in (
        *("a.json", "annotation 4 of image '12.png' (30 x 20 px)", "x nan, y 0, width 5, height 5"),
        *("expected four finite numbers", "8 of 11 boxes are bad", "`on_bad='skip'`", "`on_bad='fix'`"),
    ):
        assert part in str(error.value)


def test_skip_drops_every_invalid_box(annotations: Annotations) -> None:
    kept, lines = sanitize_boxes(annotations, "skip")
    assert kept.annotation_ids.tolist() == [1, 2, 3]
    assert kept.starts.tolist() == [0, 0, 0, 3]
    assert [kept.segmentations[i] for i in range(3)] == [[[i] * 6] for i in (1, 2, 3)]
    assert len(lines) == 4
    assert "dropped 2 boxes" in lines[0]


def test_fix_clips_overhanging_boxes_and_drops_the_rest(annotations: Annotations) -> None:
    fixed, lines = sanitize_boxes(annotations, "fix")
    assert fixed.annotation_ids.tolist() == [1, 2, 3, 10, 11]
    np.testing.assert_allclose(fixed.boxes[3:], [[0, 2, 3.5, 5], [2, 15, 5, 5]])
    np.testing.assert_allclose(fixed.areas[3:], [17.5, 25])
    np.testing.assert_array_equal(fixed.boxes[2], BOXES["one pixel over"])
    assert "clipped 2 boxes" in lines[0]
    assert sanitize_boxes(fixed, "error") == (fixed, [])
    np.testing.assert_array_equal(annotations.boxes[9], BOXES["over the left"])  # the input is unchanged


def test_unknown_policy_is_refused(annotations: Annotations) -> None:
    with pytest.raises(UserError, match="'error', 'skip' or 'fix'"):
        sanitize_boxes(annotations, "ignore")  # type: ignore[arg-type]


def test_a_box_inside_the_image_is_not_changed_by_clipping() -> None:
    sizes = np.array([[20, 30]] * 2)
    boxes = np.array([[3.0, 4, 5, 6], [-2, 18, 40, 9]])
    np.testing.assert_array_equal(clip_xywh(boxes, sizes), [[3, 4, 5, 6], [0, 18, 30, 2]])
