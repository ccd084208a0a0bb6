from typing import Any

import numpy as np
import pytest

from drfpn.data import check_dataset, convert, open_dataset, stats
from drfpn.data.masks.rle import encode
from drfpn.data.validation.crowds import count_components
from drfpn.utils.errors import UsageError


def brush(pieces: int = 1, *, polygons: int = 4, crowds: int = 4) -> dict[str, Any]:
    """Images of 20 x 30 px with an object of polygons, and a painted one that is a crowd, as CVAT writes them."""
    mask = np.zeros((20, 30), dtype=np.uint8)
    for piece in range(pieces):
        mask[10:14, 3 + 8 * piece : 8 + 8 * piece] = 1
    box = {"bbox": [3, 10, 8 * pieces - 3, 4], "area": int(mask.sum()), "segmentation": encode(mask), "iscrowd": 1}
    polygon = {"bbox": [1, 1, 9, 6], "area": 54, "segmentation": [[1, 1, 10, 1, 10, 7, 1, 7]], "iscrowd": 0}
    records = [polygon] * polygons + [box] * crowds
    images = [{"id": i, "file_name": f"{i}.png", "height": 20, "width": 30} for i in range(len(records))]
    annotations = [{"id": i + 1, "image_id": i, "category_id": 1, **record} for i, record in enumerate(records)]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "bolt"}]}


def kinds(folder: Any, data: dict[str, Any], split: str = "train") -> dict[str, Any]:
    return {issue.kind: issue for issue in check_dataset(folder.coco(data, split), [split])}


@pytest.mark.parametrize(
    ("rows", "count"),
    [
        (["..", ".."], 0),
        (["#."], 1),
        (["#.#"], 2),
        (["#.", ".#"], 1),
        (["#.#", "###"], 1),
        (["###", "#.#", "###"], 1),
        (["#...#", "#.#.#", "..#.."], 3),
        (["##..#", "...##", "#...."], 3),
    ],
)
def test_regions_are_counted(rows: list[str], count: int) -> None:
    mask = np.array([[character == "#" for character in row] for row in rows], dtype=np.uint8)
    assert count_components(mask) == count
    assert count_components(mask[::-1]) == count
    assert count_components(mask.T) == count


def test_crowds_in_one_piece_are_reported_with_their_share(folder: Any) -> None:
    issue = kinds(folder, brush())["single-object-crowd"]
    assert issue.severity == "warning"
    assert "4 of 8 objects in train (50%) are crowds" in issue.examples[0]


def test_crowds_of_several_pieces_are_none(folder: Any) -> None:
    assert "single-object-crowd" not in kinds(folder, brush(pieces=2))


def test_few_crowds_are_accepted(folder: Any) -> None:
    issues = kinds(folder, brush(polygons=3, crowds=2))
    assert not {"single-object-crowd", "class-only-crowd"} & issues.keys()


def test_class_of_crowds_only_is_an_error(folder: Any) -> None:
    issue = kinds(folder, {**brush(polygons=0), "categories": [{"id": 1, "name": "bolt"}]})["class-only-crowd"]
    assert issue.severity == "error"
    assert "all 4 objects of class 'bolt' in train are crowds" in issue.examples[0]


@pytest.mark.parametrize(
    ("split", "kind", "severity"), [("train", "no-objects", "error"), ("val", "split-without-objects", "warning")]
)
def test_split_without_objects_is_reported(folder: Any, split: str, kind: str, severity: str) -> None:
    issue = kinds(folder, {**brush(), "annotations": []}, split)[kind]
    assert issue.severity == severity
    assert f"{split} has no object" in issue.examples[0]


def test_crowds_are_objects_on_request(folder: Any, tmp_path: Any) -> None:
    data = folder.coco(brush())
    ignored, used = open_dataset(data, masks=True), open_dataset(data, masks=True, crowd="object")
    assert [len(ignored[7][1]["boxes"]), len(used[7][1]["boxes"])] == [0, 1]
    assert used[7][1]["masks"].sum().item() == 20
    assert [sum(a["iscrowd"] for a in d.ground_truth()["annotations"]) for d in (ignored, used)] == [4, 0]
    assert [stats(d)["objects"] for d in (ignored, used)] == [4, 8]
    assert not [line for line in convert(data, "yolo", tmp_path / "out", crowd="object").lost if "crowds" in line]


def test_opening_warns_of_many_crowds(folder: Any) -> None:
    lines: list[str] = []
    open_dataset(folder.coco(brush()), warn=lines.append)
    assert "4 of 8 objects are crowds" in lines[0]
    open_dataset(str(folder.root), crowd="object", warn=lines.append)
    open_dataset(folder.coco(brush(polygons=60, crowds=4)), warn=lines.append)
    assert len(lines) == 1


def test_other_treatment_of_crowds_is_refused(folder: Any) -> None:
    with pytest.raises(UsageError, match="`crowd` is 'objects', expected 'ignore' or 'object'"):
        open_dataset(folder.coco(brush()), crowd="objects")
