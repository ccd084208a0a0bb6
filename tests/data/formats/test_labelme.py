import base64
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from drfpn.data import check_dataset, open_dataset
from drfpn.data.annotations import Annotations
from drfpn.data.formats.layouts import find_layout
from drfpn.data.masks.rle import decode
from drfpn.data.validation.issues import Issue, raise_issue
from drfpn.utils.errors import UserError


def shape(kind: str | None, points: Any, label: str = "cat", group: int | None = None, **others: Any) -> dict[str, Any]:
    return {"label": label, "shape_type": kind, "points": points, "group_id": group, "flags": {}} | others


def write(folder: Any, name: str, *shapes: Any, image: str | None = None, **others: Any) -> None:
    """Write a JSON file, and an image of 30 x 20 px at ``image``, or beside it."""
    path = f"{name}.png" if image is None else image
    folder.image(path)
    stated = Path(path).name if image is None else image
    record = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": stated, "imageData": "x" * 100}
    folder.json(f"{name}.json", record | {"imageHeight": 20, "imageWidth": 30} | others)


def read(folder: Any, split: str = "all", on_issue: Any = raise_issue) -> Annotations:
    annotations = find_layout(str(folder.root)).read(split, on_issue)
    assert annotations is not None
    return annotations


def png(mask: Any) -> str:
    stream = io.BytesIO()
    Image.fromarray(np.array(mask, dtype=np.uint8) * 255).convert("1").save(stream, format="PNG")
    return base64.b64encode(stream.getvalue()).decode()


def test_boxes_and_segmentations_of_all_shapes_with_an_area_are_read(folder: Any) -> None:
    shapes = (
        shape("rectangle", [[12.5, 9], [2, 3]], "dog"),  # corners in any order
        shape("rectangle", [[2, 3], [12.5, 3], [12.5, 9], [2, 9]], "dog"),
        shape("polygon", [[1, 1], [5, 1], [5, 9.5]]),
        shape(None, [[1, 1], [5, 1], [5, 9.5]]),  # as old versions write
        shape("circle", [[10, 10], [13, 14]]),
        shape("mask", [[4, 5], [6, 6]], mask=png([[1, 0, 1], [1, 1, 1]])),
        shape("oriented_rectangle", [[5, 1], [9, 5], [5, 9], [1, 5]]),
    )
    write(folder, "a", *shapes)
    annotations = read(folder)
    rectangle, triangle = [2, 3, 10.5, 6], [1, 1, 4, 8.5]
    expected = [rectangle, rectangle, triangle, triangle, [5, 5, 10, 10], [4, 5, 3, 2], [1, 1, 8, 8]]
    np.testing.assert_allclose(annotations.boxes, expected)
    np.testing.assert_allclose(annotations.areas, [63, 63, 17, 17, 25 * math.pi, 5, 32])
    assert annotations.classes == ("cat", "dog")
    assert annotations.labels.tolist() == [2, 2, 1, 1, 1, 1, 1]
    assert annotations.sizes.tolist() == [[20, 30]]
    segmentations = annotations.segmentations
    assert segmentations is not None
    assert segmentations[0] is None
    assert segmentations[2] == [[1, 1, 5, 1, 5, 9.5]]
    assert decode(segmentations[5], 20, 30)[5:7, 4:7].tolist() == [[1, 0, 1], [1, 1, 1]]
    assert decode(segmentations[4], 20, 30).sum() == pytest.approx(25 * math.pi, rel=0.05)


def test_shapes_of_a_group_and_label_are_one_object(folder: Any) -> None:
    square, other = [[1, 1], [3, 1], [3, 3], [1, 3]], [[7, 8], [9, 8], [9, 9]]
    write(
        folder,
        "a",
        shape("polygon", square, group=1),
        shape("polygon", other, group=1),
        shape("polygon", other, "dog", group=1),
        shape("rectangle", [[0, 0], [2, 2]], group=2),
        shape("mask", [[4, 5], [5, 5]], group=2, mask=png([[1, 1]])),
    )
    annotations = read(folder)
    assert annotations.boxes.tolist() == [[1, 1, 8, 8], [7, 8, 2, 1], [0, 0, 6, 6]]
    assert annotations.areas.tolist() == [5, 1, 6]
    assert annotations.segmentations is not None
    assert len(annotations.segmentations[0]) == 2
    assert decode(annotations.segmentations[2], 20, 30).sum() == 6


def test_points_and_lines_are_left_out_with_a_word(folder: Any) -> None:
    lines = [shape(kind, [[1, 1], [2, 2]]) for kind in ("point", "points", "line", "linestrip")]
    write(folder, "a", *lines, shape("rectangle", [[1, 1], [5, 5]]))
    messages: list[str] = []
    assert open_dataset(str(folder.root), "all", warn=messages.append).num_objects() == 1
    assert messages == [
        f"{folder.root}/a.json: shape 1 (cat): it is a point, which has no box, and is left out (4 such faults)."
    ]
    issues = {issue.kind: issue.count for issue in check_dataset(str(folder.root), ["all"])}
    assert issues["shape-without-area"] == 4


BAD_SHAPES = {
    "its 'shape_type' is 'cuboid'": shape("cuboid", [[1, 1], [5, 5]]),
    "it is a polygon of 2 points": shape("polygon", [[1, 1], [5, 5]]),
    "it is a circle of 3 points": shape("circle", [[1, 1], [5, 5], [5, 5]]),
    "its 'points' are not pairs": shape("polygon", [[1, 1], [5, "a"]]),
    "it has no 'label'": {"points": [[1, 1], [5, 5]], "shape_type": "rectangle"},
    "its 'mask' cannot be decoded": shape("mask", [[4, 5], [5, 5]], mask="?"),
    "its 'mask' is 2 x 1 px from 4, 5 to 6, 5": shape("mask", [[4, 5], [6, 5]], mask=png([[1, 1]])),
}


@pytest.mark.parametrize("observed", BAD_SHAPES)
def test_an_invalid_shape_is_reported_and_does_not_hide_the_others(folder: Any, observed: str) -> None:
    write(folder, "a", BAD_SHAPES[observed], shape("rectangle", [[1, 1], [5, 5]]))
    issues: list[Issue] = []
    assert read(folder, on_issue=issues.append).boxes.tolist() == [[1, 1, 4, 4]]
    assert [issue.kind for issue in issues] == ["bad-record"]
    assert issues[0].message.startswith(f"{folder.root}/a.json: shape 1 (")
    assert observed in issues[0].message


@pytest.mark.parametrize(
    ("name", "image", "splits"),
    [
        ("{}", None, ["all"]),
        ("json/{}", "../images/{}.png", ["all"]),
        ("annotations/{}", "..\\images\\{}.png", ["all"]),
        ("{split}/{}", None, ["train", "val"]),
        ("annotations/{split}/{}", "../../images/{split}/{}.png", ["train", "val"]),
    ],
)
def test_images_are_found_in_all_common_layouts(folder: Any, name: str, image: str | None, splits: list[str]) -> None:
    rectangle = shape("rectangle", [[1, 1], [5, 5]])
    for split, stem in (("train", "a"), ("val", "b")):
        stated = None if image is None else image.format(stem, split=split)
        folder.json(f"{name.format(stem, split=split)}.json", {
            "shapes": [rectangle], "imagePath": stated or f"{stem}.png", "imageData": None,
        })  # fmt: skip
        path = folder.root / name.format(stem, split=split)
        beside = f"{path}.png" if stated is None else str(path.parent / stated.replace("\\", "/"))
        folder.image(str(Path(beside).resolve().relative_to(folder.root)))
    for split in splits:
        dataset = open_dataset(str(folder.root), split)
        assert dataset.num_objects() == len(dataset) == (2 if splits == ["all"] else 1)
        assert dataset[0][1]["boxes"].tolist() == [[1, 1, 5, 5]]


def test_a_renamed_image_is_found_by_the_name_of_its_file(folder: Any) -> None:
    write(folder, "a", shape("rectangle", [[1, 1], [5, 5]]), imagePath="C:\\photos\\old.png")
    assert read(folder).file_names.tolist() == ["a.png"]


def test_two_files_with_one_image_are_refused(folder: Any) -> None:
    write(folder, "a", shape("rectangle", [[1, 1], [5, 5]]), image="c.png")
    write(folder, "b", shape("rectangle", [[1, 1], [5, 5]]), image="c.png")
    with pytest.raises(UserError, match=r"b\.json: '.*a\.json' annotates 'c\.png' too"):
        read(folder)


def test_other_json_files_are_left_out_with_a_word_and_broken_ones_refused(folder: Any) -> None:
    write(folder, "b", shape("rectangle", [[1, 1], [5, 5]]))
    folder.json("a.json", {"classes": ["cat"]})
    issues: list[Issue] = []
    assert len(read(folder, on_issue=issues.append)) == 1
    assert [(issue.kind, issue.fatal) for issue in issues] == [("unused-label", False)]
    folder.json("a.json", "{")
    with pytest.raises(UserError, match=r"a\.json: it cannot be read as JSON"):
        read(folder)


def test_a_name_of_a_class_keeps_its_spaces(folder: Any) -> None:
    write(folder, "a", shape("rectangle", [[1, 1], [5, 5]], "hot dog "))
    assert read(folder).classes == ("hot dog ",)
    assert json.loads((folder.root / "a.json").read_text())["shapes"][0]["label"] == "hot dog "


@pytest.mark.parametrize("group", [None, "", -1])
def test_shapes_without_a_group_stay_apart(folder: Any, group: Any) -> None:
    shapes = [shape("rectangle", [[x, 1], [x + 3, 4]], group_id=group) for x in (1, 10)]
    write(folder, "a", *shapes)
    assert read(folder).boxes.tolist() == [[1, 1, 3, 3], [10, 1, 3, 3]]


def test_rectangles_of_a_group_that_do_not_overlap_are_said(folder: Any) -> None:
    write(folder, "a", *[shape("rectangle", [[x, 1], [x + 3, 4]], group=0) for x in (1, 10)])
    issues: list[Issue] = []
    assert read(folder, on_issue=issues.append).boxes.tolist() == [[1, 1, 12, 3]]
    assert [(issue.kind, issue.fatal) for issue in issues] == [("shapes-far-apart", False)]
    assert "shapes-far-apart" in {issue.kind for issue in check_dataset(str(folder.root), ["all"])}
