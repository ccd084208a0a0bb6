import json
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as pycocotools_mask
from pycocotools.coco import COCO

from drfpn.data import AnnotatedDataset, check_dataset, open_dataset
from drfpn.data.augment.presets import make_transform
from drfpn.data.augment.transformed_dataset import TransformedDataset
from drfpn.data.masks.rle import area, decode, encode, find_rle_fault
from drfpn.data.validation.masks import find_segmentation_fault
from drfpn.utils.errors import UserError

TRIANGLE = [2, 3, 12, 3, 12, 13]
HALF = {"size": [20, 30], "counts": [300, 300]}

BAD: dict[str, tuple[Any, str, str]] = {
    "none": (None, "mask-missing", "no segmentation"),
    "empty list": ([], "mask-missing", "no segmentation"),
    "text": ("polygon", "mask-polygon", "'polygon'"),
    "flat list": (TRIANGLE, "mask-polygon", "polygon 1 of 6 is 2"),
    "box": ([[1, 2, 3, 4]], "mask-polygon", "has 4 numbers"),
    "two points behind three": ([TRIANGLE, [1, 2, 3, 4]], "mask-polygon", "polygon 2 of 2 has 4 numbers"),
    "odd count": ([[*TRIANGLE, 5]], "mask-polygon", "has 7 numbers"),
    "not a number": ([[2, 3, 12, 3, 12, math.nan]], "mask-polygon", "nan"),
    "infinite": ([[2, 3, 12, 3, 12, math.inf]], "mask-polygon", "inf"),
    "words": ([[2, 3, 12, 3, 12, "13"]], "mask-polygon", "'13'"),
    "outside": ([[40, 3, 52, 3, 52, 13], [2, -9, 12, -9, 12, -3]], "mask-outside", "x 40, y 3"),
    "turned": ({"size": [30, 20], "counts": [300, 300]}, "mask-rle", "[30, 20]"),
    "no size": ({"counts": [300, 300]}, "mask-rle", "None"),
    "no counts": ({"size": [20, 30]}, "mask-rle", "cannot be decoded"),
    "negative count": ({"size": [20, 30], "counts": [700, -100]}, "mask-rle", "cannot be decoded"),
    "too long": ({"size": [20, 30], "counts": [300, 301]}, "mask-rle", "601 exceed"),
    "too short": ({"size": [20, 30], "counts": [300, 299]}, "mask-rle", "ends before the last of 600 pixels"),
    "no text": ({"size": [20, 30], "counts": ""}, "mask-rle", "ends before"),
    "cut text": ({"size": [20, 30], "counts": "o"}, "mask-rle", "cannot be decoded"),
    "other text": ({"size": [20, 30], "counts": "two words"}, "mask-rle", "cannot be decoded"),
}


def basic(flip: float = 0.5):
    return make_transform("basic", hflip_prob=flip, min_size=64, max_size=96)


def with_masks(folder: Any, coco_dict: Any, segmentation: Any) -> str:
    """Write a data set whose annotation 5 has ``segmentation``, and whose others are sound."""
    coco_dict["annotations"][0]["segmentation"] = segmentation
    coco_dict["annotations"][1]["segmentation"] = HALF
    coco_dict["annotations"][2]["segmentation"] = HALF
    return folder.coco(coco_dict)


def test_each_format_of_segmentation_is_rasterized_as_by_pycocotools(folder: Any, coco_dict: Any) -> None:
    rng = np.random.default_rng(0)
    mask = rng.integers(0, 2, (20, 30), dtype=np.uint8)
    packed = pycocotools_mask.encode(np.asfortranarray(mask))
    polygons = [rng.uniform(-3, 33, 2 * n).round(2).tolist() for n in (3, 4, 9)]
    for segmentation, expected in (
        (encode(mask), mask),
        ({**packed, "counts": packed["counts"].decode()}, mask),
        (HALF, pycocotools_mask.decode(pycocotools_mask.frPyObjects(HALF, 20, 30))),
        (polygons, pycocotools_mask.decode(pycocotools_mask.merge(pycocotools_mask.frPyObjects(polygons, 20, 30)))),
    ):
        target = open_dataset(with_masks(folder, coco_dict, segmentation), masks=True)[2][1]
        assert target["masks"].dtype == torch.uint8
        np.testing.assert_array_equal(target["masks"][0].numpy(), expected)
        assert area(segmentation, 20, 30) == expected.sum()


def test_random_polygons_are_rasterized_as_by_pycocotools() -> None:
    rng = np.random.default_rng(0)
    for case in range(300):
        height, width = rng.integers(1, 80, 2).tolist()
        corners = [rng.uniform(-20, 100, 2 * rng.integers(3, 12)) for _ in range(rng.integers(1, 4))]
        polygons = [np.round(polygon, case % 3).tolist() for polygon in corners]  # also on pixels' borders
        packed = pycocotools_mask.merge(pycocotools_mask.frPyObjects(polygons, height, width))
        np.testing.assert_array_equal(decode(polygons, height, width), pycocotools_mask.decode(packed))


def test_masks_are_encoded_as_by_pycocotools() -> None:
    masks = np.random.default_rng(0).integers(0, 2, (5, 7, 4), dtype=np.uint8)
    for mask in [*masks, masks[0].T, np.zeros((3, 2), np.uint8), np.ones((3, 2), np.uint8)]:
        encoded = json.loads(json.dumps(encode(mask.astype(bool))))
        expected = pycocotools_mask.encode(np.asfortranarray(mask))
        assert encoded == {"size": list(mask.shape), "counts": expected["counts"].decode()}
        assert find_rle_fault(encoded, *mask.shape) is None
        np.testing.assert_array_equal(decode(encoded, *mask.shape), mask)


@pytest.mark.parametrize("split", ["train", "val"])
def test_masks_of_real_images_are_pycocotools(assets: Path, split: str, capsys: Any) -> None:
    dataset = open_dataset(str(assets / "coco"), split, masks=True)
    assert isinstance(dataset, AnnotatedDataset)
    oracle = COCO(str(assets / f"coco/annotations/instances_{split}2017.json"))
    capsys.readouterr()
    assert dataset.annotations.segmentations is not None
    sizes = dataset.sizes()[dataset.annotations.image_indices()].tolist()
    for index, annotation_id in enumerate(dataset.annotations.annotation_ids.tolist()):  # crowds too
        mask = decode(dataset.annotations.segmentations[index], *sizes[index])
        np.testing.assert_array_equal(mask, oracle.annToMask(oracle.anns[annotation_id]))
    for index in range(len(dataset)):
        target = dataset[index][1]
        ids = oracle.getAnnIds(imgIds=dataset.image_id(index), iscrowd=0)
        expected = [oracle.annToMask(annotation) for annotation in oracle.loadAnns(ids)]
        np.testing.assert_array_equal(target["masks"].numpy(), np.reshape(expected, target["masks"].shape))


def test_targets_have_masks_only_on_request(folder: Any, coco_dict: Any) -> None:
    data = with_masks(folder, coco_dict, [TRIANGLE])
    assert "masks" not in open_dataset(data)[0][1]
    assert "segmentation" not in open_dataset(data).ground_truth()["annotations"][0]
    dataset = open_dataset(data, masks=True)
    assert [tuple(dataset[i][1]["masks"].shape) for i in range(3)] == [(1, 20, 30), (0, 20, 30), (1, 20, 30)]
    assert dataset.ground_truth()["annotations"][2]["segmentation"] == [TRIANGLE]
    assert "masks" in open_dataset(data, masks=None)[0][1]
    shapes = [open_dataset("shapes", masks=masks, max_images=2)[1][1] for masks in (False, True)]
    assert "masks" not in shapes[0]
    assert len(shapes[1]["masks"]) == len(shapes[1]["boxes"])


def test_masks_of_boxes_that_clipping_leaves_empty_are_dropped(folder: Any, coco_dict: Any) -> None:
    coco_dict["annotations"][1]["bbox"] = [29.9999999, 0, 1, 1]  # float32 leaves it no width
    coco_dict["annotations"].append({"id": 77, "image_id": 30, "category_id": 3, "bbox": [1, 1, 5, 5]})
    coco_dict["annotations"][3]["segmentation"] = [TRIANGLE]
    target = open_dataset(with_masks(folder, coco_dict, HALF), masks=True)[0][1]
    assert target["boxes"].tolist() == [[1, 1, 6, 6]]
    np.testing.assert_array_equal(target["masks"][0].numpy(), decode([TRIANGLE], 20, 30))


@pytest.mark.parametrize("name", BAD)
def test_an_invalid_segmentation_raises_is_dropped_and_is_reported(folder: Any, coco_dict: Any, name: str) -> None:
    segmentation, kind, observed = BAD[name]
    data = with_masks(folder, coco_dict, segmentation)
    with pytest.raises(UserError) as raised:
        open_dataset(data, masks=True)
    message = str(raised.value)
    assert "instances_train2017.json: annotation 5 of image '12.png' (30 x 20 px): " in message
    assert observed in message
    assert "expected" in message
    assert "1 of 3 segmentations is bad" in message
    lines: list[str] = []
    dataset = open_dataset(data, masks=True, on_bad="skip", warn=lines.append)
    assert [len(dataset[i][1]["masks"]) for i in range(3)] == [1, 0, 0]
    assert ["dropped 1 object (" in line for line in lines if "dropped" in line] == [True]
    assert len(open_dataset(data)[2][1]["boxes"]) == 1  # does not matter without masks
    issue = next(issue for issue in check_dataset(data, ["train"]) if issue.kind == kind)
    assert issue.severity == ("warning" if kind == "mask-missing" else "error")
    assert observed in issue.examples[0]


def test_fixing_drops_bad_polygons_and_keeps_the_others(folder: Any, coco_dict: Any) -> None:
    lines: list[str] = []
    data = with_masks(folder, coco_dict, [[1, 2, 3], TRIANGLE, [1, 2, 3, 4]])
    dataset = open_dataset(data, masks=True, on_bad="fix", warn=lines.append)
    np.testing.assert_array_equal(dataset[2][1]["masks"][0].numpy(), decode([TRIANGLE], 20, 30))
    assert [line.partition(": ")[2] for line in lines] == ["dropped bad polygons of 1 object."]
    data = with_masks(folder, coco_dict, [[1, 2, 3], [40, 3, 52, 3, 52, 13]])  # the valid one is outside
    assert len(open_dataset(data, masks=True, on_bad="fix")[2][1]["masks"]) == 0


def test_polygon_too_thin_for_a_pixel_is_an_empty_mask_and_a_warning(folder: Any, coco_dict: Any) -> None:
    data = with_masks(folder, coco_dict, [[5.1, 5.1, 5.2, 5.1, 5.2, 5.2]])
    target = open_dataset(data, masks=True)[2][1]
    assert target["masks"].shape == (1, 20, 30)
    assert target["masks"].sum() == 0
    issues = {issue.kind: issue for issue in check_dataset(data, ["train"])}
    assert issues["mask-empty"].severity == "warning"
    assert issues["mask-empty"].count == 1


def test_data_set_without_any_segmentation_is_refused_for_masks(folder: Any, coco_dict: Any) -> None:
    voc = folder.voc({"a": folder.voc_object("dog", (2, 3, 11, 20))}, train=["a"])
    with pytest.raises(UserError, match=r"Annotations: none of its 1 objects has a segmentation, expected polygons"):
        open_dataset(voc, masks=True)
    assert "masks" not in open_dataset(voc, masks=None)[0][1]
    for annotation in coco_dict["annotations"]:
        annotation.pop("segmentation", None)
    data = folder.coco(coco_dict)
    with pytest.raises(UserError, match="none of its 3 objects"):
        open_dataset(data, masks=True, on_bad="skip")
    assert not [issue for issue in check_dataset(data, ["train"]) if issue.kind.startswith("mask-")]
    coco_dict["annotations"] = []
    assert open_dataset(folder.coco(coco_dict), masks=True)[0][1]["masks"].shape == (0, 20, 30)


numbers = st.one_of(st.floats(), st.integers(), st.booleans(), st.text(max_size=2), st.none())
anything = st.one_of(
    numbers,
    st.lists(st.lists(numbers, max_size=9), max_size=3),
    st.lists(st.lists(st.floats(-9, 40), min_size=6, max_size=8), min_size=1, max_size=3),
    st.fixed_dictionaries({"size": st.just([20, 30]), "counts": st.one_of(numbers, st.text(), st.lists(numbers))}),
    st.fixed_dictionaries({"size": st.just([20, 30]), "counts": st.text("`0123456789:;<=>?@ABCabcdo", max_size=12)}),
)


@settings(deadline=None, max_examples=300)
@given(anything)
def test_a_valid_segmentation_can_be_rasterized(segmentation: Any) -> None:
    segmentation = json.loads(json.dumps(segmentation))
    if find_segmentation_fault(segmentation, 20, 30) is None:
        assert decode(segmentation, 20, 30).shape == (20, 30)


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_masks_are_flipped_and_dropped_with_their_boxes(folder: Any, coco_dict: Any, flip: float) -> None:
    coco_dict["annotations"] = []
    for number, (x, y, w, h) in enumerate([(2, 3, 10, 12), (20, 5, 0.5, 9), (17, 1, 4, 6)], start=1):
        record = {"id": number, "image_id": 12, "category_id": 3, "bbox": [x, y, w, h]}
        coco_dict["annotations"].append(record | {"segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]]})
    dataset = open_dataset(folder.coco(coco_dict), masks=True)
    _, target, *_ = TransformedDataset(dataset, basic(flip))[2, 0]
    expected = torch.tensor([[2.0, 3, 12, 15], [17, 1, 21, 7]])  # the second is under a pixel wide
    if flip:
        expected[:, [0, 2]] = 30 - expected[:, [2, 0]]
    torch.testing.assert_close(target["boxes"], expected)
    assert target["masks"].shape == (2, 20, 30)
    for mask, (x1, y1, x2, y2) in zip(target["masks"], expected.int().tolist(), strict=True):
        inside = torch.zeros(20, 30, dtype=torch.uint8)
        inside[y1:y2, x1:x2] = 1
        torch.testing.assert_close(mask, inside)


def test_ground_truth_is_cached_and_not_pickled(folder: Any, coco_dict: Any) -> None:
    dataset = open_dataset(with_masks(folder, coco_dict, [TRIANGLE]), masks=True)
    ground_truth = dataset.ground_truth()
    assert dataset.ground_truth() is ground_truth
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy.__dict__["_ground_truth"] is None
    assert copy.ground_truth() == ground_truth
    torch.testing.assert_close(copy[2][1], dataset[2][1])
