import contextlib
import io
import itertools
import pickle
import subprocess
import sys
from typing import Any

import hotcoco
import numpy as np
import pytest
import torch
from torchvision.ops import masks_to_boxes

from drfpn.data.dataset import open_dataset
from drfpn.data.masks.boxes import tight_boxes
from drfpn.data.masks.rle import decode
from drfpn.data.synthetic.geometry import OBJECTS, outline_area, transform_outline
from drfpn.data.synthetic.rendering import rasterize
from drfpn.data.synthetic.shapes import ShapesDataset
from drfpn.utils.errors import UserError


@pytest.fixture(scope="module")
def sample() -> list[tuple[torch.Tensor, Any]]:
    return [ShapesDataset("train")[i] for i in range(60)]


def assert_same(a: tuple[torch.Tensor, Any], b: tuple[torch.Tensor, Any]) -> None:
    torch.testing.assert_close(a[0], b[0])
    torch.testing.assert_close(a[1], b[1])


def test_image_depends_on_seed_split_and_index_alone(sample: Any) -> None:
    other = ShapesDataset("train", length=9)
    for index in (7, 2):  # in another order, from another length
        assert_same(other[index], sample[index])
    differing = [ShapesDataset("val")[2], ShapesDataset("train", seed=1)[2], ShapesDataset("train")[3]]
    images = [sample[2][0], *(image for image, _ in differing)]
    assert len({image.numpy().tobytes() for image in images}) == 4


def test_another_process_draws_the_same(sample: Any) -> None:
    code = "from drfpn.data import ShapesDataset; print(int(ShapesDataset('train')[5][0].long().sum()))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(result.stdout) == int(sample[5][0].long().sum())


def test_target_fits_its_masks(sample: Any) -> None:
    for image, target in sample:
        masks = target["masks"]
        assert image.dtype == masks.dtype == torch.uint8
        assert masks.shape[1:] == image.shape[1:]
        assert masks.sum(0).max() <= 1  # visible parts do not overlap
        torch.testing.assert_close(target["area"], masks.sum((1, 2)).float())
        if len(masks):  # torchvision's x2, y2 are inclusive
            torch.testing.assert_close(target["boxes"], masks_to_boxes(masks) + torch.tensor([0.0, 0, 1, 1]))
        assert target["iscrowd"].sum() == 0


def test_image_without_objects_has_empty_tensors(sample: Any) -> None:
    target = next(target for _, target in sample if not len(target["labels"]))
    assert target["boxes"].shape == (0, 4)
    assert target["labels"].dtype == torch.int64
    assert target["masks"].shape[0] == 0


def test_every_class_and_every_size_occurs(sample: Any) -> None:
    labels = torch.cat([target["labels"] for _, target in sample])
    sides = torch.cat([target["area"] for _, target in sample]).sqrt()
    assert labels.unique().tolist() == [1, 2, 3, 4, 5, 6]
    fractions = (torch.histc(sides.clamp(max=128), 4, 0, 128) / len(sides)).tolist()
    assert fractions[0] > 0.2  # small
    assert fractions[1] + fractions[2] > 0.3  # medium
    assert fractions[3] > 0.08  # large
    empty = sum(not len(target["labels"]) for _, target in sample)
    assert 1 <= empty <= 12


def test_sizes_are_known_without_drawing(sample: Any) -> None:
    sizes = ShapesDataset("train").sizes()
    assert sizes.shape == (800, 2)
    assert sizes[:60].tolist() == [list(image.shape[1:]) for image, _ in sample]


def test_ground_truth_agrees_with_the_targets() -> None:
    dataset = ShapesDataset("val", 12)
    ground_truth = dataset.ground_truth()
    for image in ground_truth["images"]:
        index = image["id"] - 1
        target = dataset[index][1]
        records = [record for record in ground_truth["annotations"] if record["image_id"] == image["id"]]
        assert image["file_name"] == f"shapes/val/{index}" == dataset.name(index)
        assert [record["category_id"] for record in records] == target["labels"].tolist()
        assert [record["area"] for record in records] == target["area"].tolist()
        for record, mask in zip(records, target["masks"].numpy(), strict=True):
            np.testing.assert_array_equal(decode(record["segmentation"], *mask.shape), mask)
    assert [record["id"] for record in ground_truth["annotations"]] == [*range(1, len(ground_truth["annotations"]) + 1)]


def test_ground_truth_evaluates_to_one_against_itself() -> None:
    dataset = ShapesDataset("test", 12)
    ground_truth = dataset.ground_truth()
    results = [{**record, "score": 1.0} for record in ground_truth["annotations"]]
    for iou_type in ("bbox", "segm"):
        with contextlib.redirect_stdout(io.StringIO()):
            coco = hotcoco.COCO(ground_truth)
            evaluation = hotcoco.COCOeval(coco, coco.loadRes(results), iou_type)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        np.testing.assert_allclose(evaluation.stats[:6], 1.0)


@pytest.mark.parametrize("name", OBJECTS)
def test_outline_is_rasterized_with_its_area(name: str) -> None:
    outline = OBJECTS[name]()
    for angle, squeeze in itertools.product((0, 33), (1.0, 0.8)):
        _, _, coverage = rasterize(transform_outline(outline, (50.3, 60.8), 40, angle, squeeze))
        expected = outline_area(outline) * 40**2 * squeeze
        np.testing.assert_allclose(coverage.sum() / 255, expected, rtol=0.05)


def test_boxes_of_masks_include_their_last_pixel() -> None:
    mask = torch.zeros(1, 5, 6, dtype=torch.uint8)
    mask[0, 2:4, 1:6] = 1
    assert tight_boxes(mask).tolist() == [[1, 2, 6, 4]]


def test_lengths_and_index_errors() -> None:
    assert [len(ShapesDataset(split)) for split in ("train", "val", "test")] == [800, 200, 200]
    assert len(open_dataset("shapes", "val", max_images=5)) == 5
    with pytest.raises(IndexError):
        ShapesDataset("val", 5)[5]
    with pytest.raises(UserError, match=r"no split 'vall'.*Did you mean 'val'"):
        ShapesDataset("vall")


def test_is_pickled_without_the_ground_truth() -> None:
    dataset = ShapesDataset("val", 3)
    dataset.ground_truth()
    assert len(pickle.dumps(dataset)) < 1000
    assert_same(pickle.loads(pickle.dumps(dataset))[1], dataset[1])
