import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hotcoco import COCO

from drfpn.data import open_dataset
from drfpn.data.formats.cvat_xml import parse_cvat
from drfpn.data.formats.layouts import find_layout
from drfpn.data.masks.rle import decode
from drfpn.data.validation.issues import Issue

BOX = '<box label="bolt" xtl="3.5" ytl="4" xbr="13.5" ybr="8" />'
POLYGON = '<polygon label="nut" points="1.0,2.0;11.0,2.0;11.0,12.0" />'


def write(folder: Any, *shapes: str, image: str = 'name="a.png"', name: str = "annotations.xml") -> Path:
    labels = "".join(f"<label><name>{name}</name></label>" for name in ("nut", "bolt"))
    meta = f"<meta><job><labels>{labels}</labels></job></meta>"
    body = f'<image id="0" width="30" height="20" {image}>{"".join(shapes)}</image>'
    return folder.json(name, f"<annotations><version>1.1</version>{meta}{body}</annotations>")


@pytest.fixture
def parse(folder: Any) -> Any:
    def parse(*shapes: str) -> Any:
        issues: list[Issue] = []
        return parse_cvat(write(folder, *shapes), folder.root, issues.append), issues

    return parse


def test_data_set_is_read_with_images_beside_the_file(folder: Any) -> None:
    file = write(folder, BOX, POLYGON)
    folder.image("images/a.png")
    for data in (folder.root, file):
        dataset = open_dataset(str(data), "all")
        assert dataset.classes == ("nut", "bolt")
        assert dataset[0][1]["boxes"].tolist() == [[3.5, 4, 13.5, 8], [1, 2, 11, 12]]
        assert dataset[0][1]["labels"].tolist() == [2, 1]


def test_subsets_are_splits(folder: Any) -> None:
    write(folder, BOX, image='name="a.png" subset="Validation"')
    folder.image("images/Validation/a.png")
    assert find_layout(str(folder.root)).splits == ("val",)
    assert open_dataset(str(folder.root), "val").num_objects() == 1


@pytest.mark.parametrize("quote", ['"', "'"])
def test_images_without_a_subset_are_a_split_of_their_own(folder: Any, quote: str) -> None:
    images = [("a&amp;b.png", ' subset="T&amp;A"'), ("b.png", ' subset="Train"'), ("c.png", "")]
    body = "".join(f'<image name="{name}" width="30" height="20"{more}>{BOX}</image>' for name, more in images)
    folder.json("annotations.xml", f"<annotations>{body}</annotations>".replace('"', quote))
    for name in ("a&b.png", "b.png", "c.png"):
        folder.image(f"images/{name}")
    data, lines = str(folder.root), list[str]()
    assert find_layout(data).splits == ("T&A", "train", "others")
    assert open_dataset(data, "T&A", warn=lines.append).to_annotations().file_names.tolist() == ["a&b.png"]
    assert open_dataset(data, "others").to_annotations().file_names.tolist() == ["c.png"]
    assert "1 images have no subset; they are the split 'others'" in lines[0]


def test_boxes_and_polygons_are_those_of_hotcoco(folder: Any, parse: Any) -> None:
    annotations, issues = parse(BOX, POLYGON)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = COCO.from_cvat(str(folder.root / "annotations.xml")).dataset["annotations"]
    assert not issues
    assert annotations.boxes.tolist() == [annotation["bbox"] for annotation in expected]
    assert annotations.areas.tolist() == [annotation["area"] for annotation in expected]
    assert annotations.segmentations[1] == expected[1]["segmentation"]


@pytest.mark.parametrize("angle", [0, 30, 90, 200, 359.5])
def test_box_of_a_rotated_box_is_around_its_corners(parse: Any, angle: float) -> None:
    annotations, _ = parse(f'<box label="nut" xtl="10" ytl="8" xbr="20" ybr="12" rotation="{angle}" />')
    turn = np.exp(1j * math.radians(angle))
    corners = 15 + 10j + turn * np.array([-5 - 2j, 5 - 2j, 5 + 2j, -5 + 2j])
    x1, y1 = corners.real.min(), corners.imag.min()
    np.testing.assert_allclose(
        annotations.boxes[0], [x1, y1, corners.real.max() - x1, corners.imag.max() - y1], atol=1e-9
    )
    assert annotations.areas.tolist() == [40]


@pytest.mark.parametrize("angle", [0, 40, 90])
def test_box_of_an_ellipse_is_around_its_outline(parse: Any, angle: float) -> None:
    annotations, _ = parse(f'<ellipse label="nut" cx="15" cy="10" rx="6" ry="2" rotation="{angle}" />')
    outline = np.linspace(0, 2 * np.pi, 100_001)
    points = 15 + 10j + np.exp(1j * math.radians(angle)) * (6 * np.cos(outline) + 2j * np.sin(outline))
    x1, y1 = points.real.min(), points.imag.min()
    np.testing.assert_allclose(annotations.boxes[0], [x1, y1, np.ptp(points.real), np.ptp(points.imag)], atol=1e-6)


def test_mask_is_read_with_its_box(parse: Any) -> None:
    shape = '<mask label="nut" rle="1, 2, 4, 3, 10" left="5" top="6" width="5" height="4" />'
    annotations, issues = parse(shape)
    assert not issues
    expected = np.zeros((20, 30), dtype=np.uint8)
    expected[6:10, 5:10] = np.array([0, 1, 1, 0, 0, 0, 0, 1, 1, 1, *[0] * 10]).reshape(4, 5)
    np.testing.assert_array_equal(decode(annotations.segmentations[0], 20, 30), expected)
    assert annotations.boxes.tolist() == [[6, 6, 4, 2]]
    assert annotations.areas.tolist() == [5]
    assert not annotations.crowd.any()


def test_shapes_without_an_area_are_counted(parse: Any) -> None:
    outside = BOX.replace("/>", 'outside="1" />')
    annotations, issues = parse(BOX, '<points label="nut" points="1,2" />', '<tag label="nut" />', outside)
    assert len(annotations.boxes) == 1
    (issue,) = issues
    assert issue.observed == "1 <points>, 1 <tag>, 1 <box> are no objects with a box"
    assert not issue.fatal


def test_label_that_is_not_declared_is_a_class(parse: Any) -> None:
    annotations, _ = parse(BOX.replace("bolt", "screw"))
    assert annotations.classes == ("nut", "bolt", "screw")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ('<box label="nut" xtl="3" ytl="4" xbr="5" />', "it has no ybr"),
        ('<box label="nut" xtl="x" ytl="4" xbr="5" ybr="9" />', "could not convert"),
        ('<polygon label="nut" points="1,2;3" />', "shorter"),
        ('<polygon label="nut" />', "could not convert"),
        ('<mask label="nut" rle="1,2" left="5" top="6" width="5" height="4" />', "its rle has 3 pixels, its box 20"),
        ('<mask label="nut" rle="0,20" left="28" top="6" width="5" height="4" />', "it reaches out of the image"),
        ('<mask label="nut" rle="20" left="5" top="6" width="5" height="4" />', "it covers no pixel"),
    ],
)
def test_an_invalid_shape_is_reported_and_does_not_hide_the_others(parse: Any, shape: str, message: str) -> None:
    annotations, issues = parse(shape, BOX)
    assert annotations.boxes.tolist() == [[3.5, 4, 10, 4]]
    assert issues[0].kind == "bad-record"
    assert "of image 'a.png'" in issues[0].location
    assert message in issues[0].observed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotations><track /></annotations>", "it holds tracks of 'CVAT for video'"),
        ("<annotation></annotation>", "it holds <annotation> without images"),
        ("<annotations", "it is not XML"),
    ],
)
def test_other_xml_is_refused(folder: Any, text: str, message: str) -> None:
    issues: list[Issue] = []
    assert parse_cvat(folder.json("annotations.xml", text), folder.root, issues.append) is None
    assert message in issues[0].observed
