from typing import Any

import numpy as np
import pytest

from drfpn.data import convert, open_dataset
from drfpn.data.formats.yolo import read_yolo
from drfpn.data.formats.yolo_keypoints import KeypointEvidence
from drfpn.utils.errors import UserError

POSE = "0 0.25 0.458 0.25 0.417 0.14 0.29 0.17 0.35 0.2 0.41 0.23 0.47"
VISIBLE = "0 0.25 0.458 0.25 0.417 0.14 0.29 {0} 0.17 0.35 {0} 0.2 0.41 {0} 0.23 0.47 {0}"


def shape(lines: list[Any]) -> tuple[int, int] | None:
    evidence = KeypointEvidence()
    for line in lines:
        evidence.add(np.asarray(line, dtype=float).ravel().tolist(), "a.txt: line 1")
    return evidence.shape()


@pytest.mark.parametrize(("line", "dims"), [(POSE, 2), (VISIBLE.format(1), 3), (VISIBLE.format(2), 3)])
def test_boxes_of_lines_with_keypoints_are_read_where_the_yaml_file_has_their_shape(
    folder: Any, line: str, dims: int
) -> None:
    data = folder.yolo({"a": f"{line}\n1 0.5 0.5 0.2 0.4\n"})
    folder.json("data.yaml", f"train: images/train\nnames: [cat, dog]\nkpt_shape: [4, {dims}]\n")
    annotations = read_yolo(data, "train")
    boxes = [[0.125 * 30, (0.458 - 0.2085) * 20, 0.25 * 30, 0.417 * 20], [12, 6, 6, 8]]
    np.testing.assert_allclose(annotations.boxes, boxes)
    assert annotations.segmentations is None
    folder.json("data.yaml", f"train: images/train\nnames: [cat, dog]\nkpt_shape: [3, {dims}]\n")
    with pytest.raises(UserError, match=rf"line 1: it has {5 + 4 * dims} words, expected {5 + 3 * dims}: a class id"):
        read_yolo(data, "train")


@pytest.mark.parametrize(
    ("line", "kpt_shape"),
    [
        (POSE, r"\[4, 2\]"),
        (VISIBLE.format(1), r"\[4, 3\]"),
        (VISIBLE.format(2), r"\[4, 3\]"),
        ("0 0.5 0.5 0.4 0.4 0.45 0.6 2", r"\[1, 3\]"),  # an even number of words is no polygon
    ],
)
def test_lines_that_may_have_keypoints_are_refused_with_both_readings(folder: Any, line: str, kpt_shape: str) -> None:
    data = str(folder.yolo({"a": line}))
    message = rf"labels/train/a\.txt: line 1: it.* keypoints?.*`kpt_shape: {kpt_shape}` in data\.yaml.*`task: segment`"
    for on_bad in ("error", "skip"):
        with pytest.raises(UserError, match=message):
            open_dataset(data, on_bad=on_bad)


def test_the_yaml_file_can_state_that_lines_are_polygons(folder: Any) -> None:
    data = folder.yolo({"a": POSE})
    folder.json("data.yaml", "train: images/train\nnames: [cat, dog]\ntask: segment\n")
    assert read_yolo(data, "train").segmentations is not None


@pytest.mark.parametrize("text", ["17", "[17]", "[17, 4]", "[0, 2]", "[a, 2]"])
def test_an_invalid_shape_of_keypoints_is_refused(folder: Any, text: str) -> None:
    folder.yolo({"a": ""})
    with pytest.raises(UserError, match=r"'kpt_shape' is .*expected the number of keypoints and 2 or 3 values"):
        read_yolo(folder.json("data.yaml", f"train: images/train\nnames: [a]\nkpt_shape: {text}"), "train")


def pose(rng: Any, keypoints: int, dims: int) -> list[Any]:
    w, h = rng.uniform(0.05, 0.9, 2)
    x, y = rng.uniform(w / 2, 1 - w / 2), rng.uniform(h / 2, 1 - h / 2)
    points = rng.uniform(-0.5, 0.5, (keypoints, 2)) * (w, h) + (x, y)
    flags = rng.integers(0, 3, (keypoints, 1))
    return [x, y, w, h, *np.hstack([points, flags][: dims - 1]).ravel()]


@pytest.mark.parametrize("keypoints", [1, 2, 5, 17])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("count", [3, 20])
def test_pose_labels_are_never_taken_for_polygons(keypoints: int, dims: int, count: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        assert shape([pose(rng, keypoints, dims) for _ in range(count)]) == (keypoints, dims)


def polygon(rng: Any, corners: int, size: float) -> Any:
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    outline = np.stack([np.cos(angles), np.sin(angles)], axis=1) * size / 2
    return outline + rng.uniform(size / 2, 1 - size / 2, 2)


def rotated_rectangle(rng: Any) -> Any:
    angle, size = rng.uniform(0, np.pi), rng.uniform(0.05, 0.3, 2)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * size / 2
    return np.roll(corners @ rotation.T + rng.uniform(0.3, 0.7, 2), rng.integers(4), axis=0)


def test_polygons_with_a_fixed_number_of_corners_are_polygons() -> None:
    rng = np.random.default_rng(0)
    for corners in (3, 4, 5, 8, 24):
        for size in (0.05, 0.3, 0.9):
            assert shape([polygon(rng, corners, size) for _ in range(20)]) is None, (corners, size)
    for _ in range(100):  # as of tools for rotated boxes
        assert shape([rotated_rectangle(rng)]) is None
    assert shape([polygon(rng, 4, 0.2), polygon(rng, 5, 0.2)]) is None


def test_polygons_that_are_written_are_read_as_polygons(folder: Any, coco_dict: Any, tmp_path: Any) -> None:
    folder.root = tmp_path / "data"
    points = (np.array(POSE.split()[1:], dtype=float).reshape(-1, 2) * (30, 20)).ravel().tolist()
    coco_dict["annotations"] = [
        {"id": 1, "image_id": 7, "category_id": 3, "bbox": [4, 5, 3, 4], "segmentation": [points]}
    ]
    convert(folder.coco(coco_dict), "yolo", tmp_path / "yolo")
    annotations = read_yolo(tmp_path / "yolo/data.yaml", "train")
    assert annotations.segmentations is not None
    np.testing.assert_allclose(annotations.segmentations[0], [points], atol=1e-6)
