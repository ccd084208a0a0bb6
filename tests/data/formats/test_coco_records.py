import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drfpn.data import check_dataset, convert, open_dataset
from drfpn.data.formats.coco import parse_coco, read_coco
from drfpn.data.formats.coco_values import is_implausible_area, object_area
from drfpn.data.masks.rle import encode
from drfpn.data.validation.issues import Issue
from drfpn.utils.errors import UserError


@pytest.fixture
def parse(folder: Any) -> Any:
    """Function of a COCO dict that returns its annotations and the issues."""

    def parse(data: Any, *, segmentations: bool = True) -> Any:
        issues: list[Issue] = []
        file = folder.json("a.json", data)
        return parse_coco(file, folder.root, issues.append, segmentations=segmentations), issues

    return parse


def boxes_of(count: int, **values: Any) -> dict[str, Any]:
    """One image of 100 x 100 px with boxes of 10 x (10 + i) px."""
    annotations = [
        {"id": i + 1, "image_id": 1, "category_id": 1, "bbox": [i, i, 10, 10 + i], **values} for i in range(count)
    ]
    images = [{"id": 1, "file_name": "a.png", "height": 100, "width": 100}]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "bolt"}]}


def only(issues: list[Issue], kind: str) -> Issue:
    (issue,) = [issue for issue in issues if issue.kind == kind]
    return issue


class TestIds:
    def test_strings_of_digits_are_ids_if_all_of_a_field_are(self, parse: Any, coco_dict: Any) -> None:
        for annotation in coco_dict["annotations"]:
            annotation |= {"id": str(annotation["id"]), "image_id": str(annotation["image_id"])}
        annotations, issues = parse(coco_dict)
        assert not issues
        assert annotations.annotation_ids.tolist() == [9, 2, 5]
        assert annotations.starts.tolist() == [0, 2, 2, 3]

    def test_a_string_among_numbers_is_reported(self, parse: Any, coco_dict: Any) -> None:
        coco_dict["annotations"][1]["image_id"] = "30"
        annotations, issues = parse(coco_dict)
        assert only(issues, "bad-record").observed == "its image_id is '30'"
        assert len(annotations.boxes) == 2

    @pytest.mark.parametrize("value", ["1.0", "", "a", "-1", "²", "9" * 30])
    def test_other_strings_are_reported(self, parse: Any, coco_dict: Any, value: str) -> None:
        coco_dict["images"][0]["id"] = value
        assert only(parse(coco_dict)[1], "bad-record").observed.startswith(f"its id is {value!r}")

    def test_a_byte_order_mark_is_skipped(self, folder: Any, coco_dict: Any) -> None:
        (folder.root / "a.json").write_text(json.dumps(coco_dict), encoding="utf-8-sig")
        assert len(read_coco(folder.root / "a.json", folder.root)) == 3


class TestCategories:
    def test_categories_of_one_name_are_one_class(self, parse: Any, coco_dict: Any) -> None:
        coco_dict["categories"][0]["name"] = "car"  # of id 90; the other car has 3
        annotations, issues = parse(coco_dict)
        assert annotations.classes == ("car", "bottle")
        assert annotations.category_ids.tolist() == [3, 44]
        assert annotations.labels.tolist() == [1, 2, 1]
        assert "3 and 90 are all called 'car'" in only(issues, "same-class-name").observed
        assert not issues[0].fatal
        ground_truth = annotations.to_coco()
        assert ground_truth["categories"][0] == {"id": 3, "name": "car", "merged_ids": [90]}
        assert {annotation["category_id"] for annotation in ground_truth["annotations"]} == {3, 44}

    def test_a_merged_class_is_written_once(self, folder: Any, coco_dict: Any, tmp_path: Path) -> None:
        coco_dict["categories"][0]["name"] = "car"
        convert(folder.coco(coco_dict), "coco", tmp_path / "out")
        written = json.loads((tmp_path / "out/annotations/instances_train2017.json").read_text())
        assert written["categories"] == [{"id": 3, "name": "car"}, {"id": 44, "name": "bottle"}]


class TestAreas:
    @pytest.mark.parametrize("area", [1.0, 0, -5, 30 * 20, 1e30, float("nan")])
    def test_a_placeholder_is_replaced_by_the_area_of_the_box(self, parse: Any, coco_dict: Any, area: float) -> None:
        coco_dict["annotations"] = [{**coco_dict["annotations"][2], "area": area, "iscrowd": 0, "segmentation": []}]
        annotations, issues = parse(coco_dict)
        assert annotations.areas.tolist() == [42]
        assert "annotation 2 has" in only(issues, "implausible-area").observed

    @pytest.mark.parametrize("segmentations", [True, False])
    @pytest.mark.parametrize("compressed", [True, False])
    def test_a_placeholder_is_replaced_by_the_area_of_the_mask(
        self, parse: Any, coco_dict: Any, segmentations: bool, compressed: bool
    ) -> None:
        mask = np.zeros((20, 30), dtype=np.uint8)
        mask[5:9, 4:10] = 1
        mask[9:12, 4] = 1
        polygon = [[4, 5, 10, 5, 10, 9, 5, 9, 5, 12, 4, 12]]
        coco_dict["annotations"] = [
            {
                **coco_dict["annotations"][2],
                "area": 1,
                "segmentation": encode(mask) if compressed else polygon,
            }
        ]
        assert parse(coco_dict, segmentations=segmentations)[0].areas.tolist() == [27]

    @pytest.mark.parametrize("area", [0.3, 7.5, 41.9, 42, 7 * 8 - 0.5])
    def test_a_plausible_area_of_a_mask_is_kept_bit_for_bit(self, parse: Any, coco_dict: Any, area: float) -> None:
        coco_dict["annotations"] = [{**coco_dict["annotations"][2], "area": area}]
        annotations, issues = parse(coco_dict)
        assert annotations.areas.tolist() == [area]
        assert not issues

    def test_one_area_for_boxes_of_all_sizes_is_a_placeholder(self, parse: Any) -> None:
        annotations, issues = parse(boxes_of(20, area=90))
        assert annotations.areas.tolist() == [10 * (10 + i) for i in range(20)]
        assert "20 of 20 objects" in only(issues, "implausible-area").observed

    def test_one_area_for_boxes_of_one_size_is_kept(self, parse: Any) -> None:
        data = boxes_of(20, area=90)
        for annotation in data["annotations"]:
            annotation["bbox"][2:] = [10, 10]
        annotations, issues = parse(data)
        assert set(annotations.areas.tolist()) == {90}
        assert not issues

    @pytest.mark.parametrize("x", [float("nan"), float("inf"), 1e308])
    def test_boxes_that_are_not_finite_are_left_to_the_check_of_boxes(self, parse: Any, x: float) -> None:
        annotations, issues = parse(boxes_of(1, area=1, bbox=[x, 0, 10, 10], segmentation=[[0, 0, 9, 0, 9, 9]]))
        assert annotations.areas.tolist() == [100]
        assert {issue.kind for issue in issues} - {"box-differs"} == {"implausible-area"}

    def test_boxes_without_area_are_left_to_the_check_of_boxes(self) -> None:
        assert not is_implausible_area(1, 0, 5, has_mask=False)
        assert not is_implausible_area(1, float("nan"), 5, has_mask=False)

    @pytest.mark.parametrize("segmentation", [None, [], [[1]], {"size": [5, 5]}, {"counts": 3}, "x"])
    def test_area_of_an_invalid_mask_is_that_of_the_box(self, segmentation: Any) -> None:
        assert object_area([1, 1, 4, 5], segmentation) == 20


class TestRotation:
    def test_rotated_boxes_are_counted(self, parse: Any) -> None:
        data = boxes_of(4)
        for annotation, rotation in zip(data["annotations"], (90.0, 0.0, 12, 180.0), strict=True):
            annotation |= {"segmentation": [], "attributes": {"occluded": False, "rotation": rotation}}
        issue = only(parse(data)[1], "rotated-box")
        assert issue.observed == "2 of 4 boxes are rotated, and read without the rotation (annotation 1: 90 degrees)"
        assert not issue.fatal

    def test_the_attribute_of_a_polygon_is_ignored(self, parse: Any) -> None:
        data = boxes_of(1, segmentation=[[0, 0, 9, 0, 9, 9]], attributes={"rotation": 30})
        assert not parse(data)[1]

    def test_training_warns(self, folder: Any) -> None:
        lines: list[str] = []
        open_dataset(folder.coco(boxes_of(2, attributes={"rotation": 30})), warn=lines.append)
        assert "2 of 2 boxes are rotated" in lines[0]


class TestValues:
    def test_numbers_may_be_strings(self, parse: Any) -> None:
        annotations, issues = parse(boxes_of(1, bbox=["1.5", "2", " 3", "4e0"], area="11", iscrowd="0"))
        assert not issues
        assert annotations.boxes.tolist() == [[1.5, 2, 3, 4]]
        assert (annotations.areas.tolist(), annotations.crowd.tolist()) == ([11], [False])

    @pytest.mark.parametrize("box", [None, []])
    @pytest.mark.parametrize("compressed", [True, False])
    def test_a_missing_box_is_that_of_the_mask(self, parse: Any, box: Any, compressed: bool) -> None:
        mask = np.zeros((100, 100), dtype=np.uint8)
        mask[20:60, 10:40] = 1
        segmentation = encode(mask) if compressed else [[10, 20, 40, 20, 40, 50], [12, 22, 20, 60, 12, 60]]
        annotations, issues = parse(boxes_of(1, bbox=box, segmentation=segmentation))
        assert not issues
        assert annotations.boxes.tolist() == [[10, 20, 30, 40]]

    @pytest.mark.parametrize("segmentation", [None, [[]], [["x"] * 6], {"size": [5, 5]}])
    def test_a_missing_box_without_a_mask_is_bad(self, parse: Any, segmentation: Any) -> None:
        assert (
            "its bbox is None"
            in only(parse(boxes_of(1, bbox=None, segmentation=segmentation))[1], "bad-record").observed
        )


class TestBoxesOfMasks:
    POLYGON = ((10, 20, 40, 20, 40, 60, 10, 60),)

    @pytest.mark.parametrize(
        ("box", "observed"),
        [
            ([10, 20, 40, 60], "is that of its mask as x1, y1, x2, y2"),
            ([25, 40, 30, 40], "is that of its mask as center, width, height"),
            ([20, 10, 40, 30], "is that of its mask as y, x, height, width"),
            ([60, 20, 30, 40], "does not meet its mask"),
        ],
    )
    def test_a_contradiction_is_reported(self, parse: Any, box: list[float], observed: str) -> None:
        data = boxes_of(2, segmentation=list(map(list, self.POLYGON)))
        data["annotations"][0]["bbox"], data["annotations"][1]["bbox"] = box, [10, 20, 30, 40]
        issue = only(parse(data)[1], "box-differs")
        assert not issue.fatal
        assert issue.observed == f"1 of 2 boxes contradict their masks (that of annotation 1 {observed})"

    @pytest.mark.parametrize("box", [[11.5, 19, 30, 41], [0, 0, 90, 90], [20, 30, 5, 5], [38, 58, 30, 30]])
    def test_a_larger_or_smaller_box_is_none(self, parse: Any, box: list[float]) -> None:
        assert not parse(boxes_of(1, bbox=box, segmentation=list(map(list, self.POLYGON))))[1]

    def test_crowds_are_not_compared(self, parse: Any) -> None:
        assert not parse(boxes_of(1, bbox=[80, 80, 5, 5], iscrowd=1, segmentation=list(map(list, self.POLYGON))))[1]

    def test_a_word_is_said_without_masks(self, folder: Any) -> None:
        lines: list[str] = []
        data = boxes_of(1, bbox=[20, 10, 5, 5], segmentation=[[1, 2, 11, 2, 11, 12]])
        data["images"][0] |= {"height": 20, "width": 30}
        open_dataset(folder.coco(data), warn=lines.append)
        assert "1 of 1 boxes contradict their masks" in lines[0]


class TestRepeatedBoxes:
    @pytest.mark.parametrize(
        ("category", "kind", "observed"),
        [
            (1, "repeated-object", "1 of 3 objects have the box and the class of another one"),
            (2, "two-classes", "1 of 3 objects have the box of another one of another class"),
        ],
    )
    def test_the_same_box_again_is_reported(self, parse: Any, category: int, kind: str, observed: str) -> None:
        data = boxes_of(3)
        data["categories"].append({"id": 2, "name": "nut"})
        data["annotations"][2] |= {"bbox": data["annotations"][0]["bbox"], "category_id": category}
        issue = only(parse(data)[1], kind)
        assert not issue.fatal
        assert issue.observed == f"{observed} (annotations 1 and 3 in 'a.png')"

    def test_few_among_many_are_none(self, parse: Any) -> None:
        data = boxes_of(201)
        data["annotations"][200]["bbox"] = data["annotations"][0]["bbox"]
        assert not parse(data)[1]


class TestSharedFiles:
    @pytest.mark.parametrize("name", ["./30.png", "../train2017/30.png", ".//30.png"])
    def test_other_paths_of_one_file_are_refused(self, folder: Any, coco_dict: Any, name: str) -> None:
        data = folder.coco(coco_dict)
        coco_dict["images"][2]["file_name"] = name
        folder.json("annotations/instances_train2017.json", coco_dict)
        with pytest.raises(UserError, match="images 30 and 12 are this file, each with other"):
            open_dataset(data)

    def test_one_file_as_two_images_with_other_objects_is_refused(self, folder: Any, coco_dict: Any) -> None:
        coco_dict["images"][2]["file_name"] = "30.png"
        data = folder.coco(coco_dict)
        with pytest.raises(UserError, match=r"image '30\.png': images 30 and 12 are this file, each with other"):
            open_dataset(data)
        assert "shared-image-file" in {issue.kind for issue in check_dataset(data, ["train"])}

    def test_one_file_listed_twice_with_the_same_objects_is_accepted(self, folder: Any, coco_dict: Any) -> None:
        coco_dict["images"].append({**coco_dict["images"][0], "id": 99})
        coco_dict["annotations"] += [
            {**annotation, "id": 100 + annotation["id"], "image_id": 99}
            for annotation in coco_dict["annotations"]
            if annotation["image_id"] == 30
        ]
        assert len(open_dataset(folder.coco(coco_dict))) == 4


def test_real_data_are_read_bit_for_bit(assets: Path) -> None:
    source = assets / "coco" / "annotations" / "instances_val2017.json"
    original = json.loads(source.read_text())
    areas = {annotation["id"]: annotation["area"] for annotation in original["annotations"]}
    annotations = read_coco(source, assets / "coco" / "val2017")
    assert dict(zip(annotations.annotation_ids.tolist(), annotations.areas.tolist(), strict=True)) == areas
