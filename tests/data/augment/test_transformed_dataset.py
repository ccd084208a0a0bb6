import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from drfpn.data import DetectionDataset, ShapesDataset
from drfpn.data.augment.copy_paste import copy_paste
from drfpn.data.augment.presets import PRESETS, make_transform
from drfpn.data.augment.transformed_dataset import Sample, TransformedDataset, collate
from drfpn.data.base import Target
from drfpn.utils.errors import UserError

each = pytest.mark.parametrize("name", PRESETS)


class Rectangles(DetectionDataset):
    """Black images with bright rectangles that fill their boxes and masks: red of label 1, green, then blue."""

    classes = ("red", "green", "blue")
    category_ids = (1, 2, 3)

    def __init__(self, *boxes: tuple[int, int, int, int], size: tuple[int, int] = (120, 160)) -> None:
        self.boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        self.size = size

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        image = torch.zeros(3, *self.size, dtype=torch.uint8)
        masks = torch.zeros(len(self.boxes), *self.size, dtype=torch.uint8)
        for i, (x1, y1, x2, y2) in enumerate(self.boxes.int().tolist()):
            masks[:, y1:y2, x1:x2] = 0  # later ones are in front
            masks[i, y1:y2, x1:x2] = 1
            image[:, y1:y2, x1:x2] = 0
            image[i % 3, y1:y2, x1:x2] = 255
        count = len(self.boxes)
        return image, {
            "boxes": self.boxes.clone(),
            "labels": torch.arange(count) % 3 + 1,
            "image_id": torch.tensor(index),
            "area": masks.flatten(1).sum(1).float(),
            "iscrowd": torch.zeros(count, dtype=torch.int64),
            "masks": masks,
        }

    def name(self, index: int) -> str:
        return f"{index}.png"

    def image_id(self, index: int) -> int:
        return index

    def sizes(self):
        raise NotImplementedError

    def ground_truth(self):
        raise NotImplementedError


def augmented(name: str, dataset: DetectionDataset, **options) -> TransformedDataset:
    transform = make_transform(name, hflip_prob=0.5, min_size=96, max_size=128)
    return TransformedDataset(dataset, transform, copy_paste=PRESETS[name].copy_paste, **options)


def bounds(mask: Tensor) -> Tensor:
    rows, columns = mask.nonzero().unbind(1)
    return torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()


@each
@pytest.mark.parametrize("seed", range(12))
def test_boxes_and_masks_are_transformed_as_the_pixels(name, seed) -> None:
    data = Rectangles((10, 20, 60, 70), (90, 30, 130, 100), (70, 5, 85, 25))
    image, target, *_ = augmented(name, data)[0, seed]
    assert image.dtype == torch.float32
    for box, label, mask in zip(target["boxes"], target["labels"].tolist(), target["masks"], strict=True):
        alone = target["labels"] == label
        if name == "copy_paste" and alone.sum() > 1:
            continue  # two rectangles of one color
        others = [c for c in range(3) if c != label - 1]
        bright = (image[label - 1] - image[others].amax(0)) > 0.25
        if name == "photometric":  # it may permute channels
            x1, y1, x2, y2 = box.int().tolist()
            bright = torch.zeros_like(bright)
            bright[max(0, y1 - 3) : y2 + 3, max(0, x1 - 3) : x2 + 3] = True
            bright &= image.amax(0) - image.amin(0) > 0.25
        if name == "lsj" and not bright.any():
            continue  # smaller than a pixel
        assert_close(box, bounds(bright), atol=1.5, rtol=0)
        if mask.any():
            assert_close(bounds(mask), bounds(bright), atol=1.5, rtol=0)


@each
@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**62), count=st.integers(0, 4))
def test_targets_are_valid(name, seed, count) -> None:
    boxes = ((0, 0, 160, 120), (155, 0, 160, 4), (0, 100, 3, 120), (40, 40, 90, 90))[:count]
    image, target, *_ = augmented(name, Rectangles(*boxes))[0, seed]
    height, width = image.shape[-2:]
    assert 0 <= image.min() <= image.max() <= 1
    x1, y1, x2, y2 = target["boxes"].unbind(1)
    assert ((x1 >= 0) & (y1 >= 0) & (x2 <= width) & (y2 <= height)).all()
    assert ((x2 - x1 >= 1) & (y2 - y1 >= 1)).all()
    assert {len(target[key]) for key in ("labels", "area", "iscrowd", "masks")} == {len(target["boxes"])}
    assert target["boxes"].shape[1:] == (4,)
    assert (target["area"] > 0).all()
    assert target["masks"].shape[1:] == (height, width)


@each
def test_areas_scale_with_the_image(name) -> None:
    data = Rectangles((30, 30, 90, 80))
    for seed in range(10):
        _, target, *_ = augmented(name, data)[0, seed]
        for area, box, mask in zip(target["area"], target["boxes"], target["masks"], strict=True):
            outline = 2 * float((box[2:] - box[:2]).sum())
            assert_close(area, mask.sum().float(), rtol=0, atol=outline)  # masks have whole pixels


@each
def test_augmentation_depends_only_on_the_seed(name) -> None:
    data = Rectangles((10, 20, 60, 70), (90, 30, 130, 100))
    samples = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        expected = torch.rand(1)
        torch.manual_seed(noise)
        samples.append(augmented(name, data)[1, 77])
        assert_close(torch.rand(1), expected)  # the global generator is unchanged
    assert_close(samples[0].image, samples[1].image)
    assert_close(samples[0].target, samples[1].target)
    flipped = {augmented(name, data)[1, seed].image.sum().item() for seed in range(8)}
    assert len(flipped) > 1 or name == "basic"


@each
def test_workers_may_be_spawned(name) -> None:
    data = augmented(name, ShapesDataset("train", 2, masks=True))
    assert_close(pickle.loads(pickle.dumps(data))[1, 5].image, data[1, 5].image)


@pytest.mark.parametrize(("name", "sizes"), [("multiscale", {77, 81, 84, 88, 92, 96}), ("lsj", {96})])
def test_resizing_presets_give_their_sizes(name, sizes) -> None:
    sizes_seen = {min(augmented(name, Rectangles())[0, seed].image.shape[-2:]) for seed in range(60)}
    assert sizes_seen == sizes
    assert PRESETS[name].resizes


def target_of(data: Rectangles) -> tuple[Tensor, Target]:
    image, target = data[0]
    return image / 255, target


def pasted(front: tuple[int, int, int, int]) -> tuple[Tensor, Target]:
    """Paste one rectangle in front of a red one at 20..80, 20..60."""
    image, target = target_of(Rectangles((20, 20, 80, 60)))
    source_image, source_target = target_of(Rectangles((0, 0, 1, 1), front))
    source_target = {key: value[1:] if value.ndim else value for key, value in source_target.items()}
    for seed in range(100):
        torch.manual_seed(seed)
        if torch.rand(1) < 0.5:  # the one object is among those chosen
            torch.manual_seed(seed)
            return copy_paste(image, target, source_image, source_target)
    raise AssertionError


def test_pasted_objects_are_in_front_and_occlude_others() -> None:
    image, target = pasted((50, 0, 160, 120))
    assert_close(target["boxes"], torch.tensor([[20.0, 20, 50, 60], [50, 0, 160, 120]]))
    assert target["labels"].tolist() == [1, 2]
    assert_close(target["area"], torch.tensor([30.0 * 40, 110 * 120]))
    assert_close(target["masks"].flatten(1).sum(1).float(), target["area"])
    assert (image[1, :, 50:] == 1).all()
    assert (image[0, 20:60, 20:50] == 1).all()


def test_an_object_with_a_tenth_visible_is_dropped_and_one_that_is_not_occluded_is_unchanged() -> None:
    _, target = pasted((25, 0, 160, 120))  # 5 of 60 columns remain
    assert target["labels"].tolist() == [2]
    _, target = pasted((100, 0, 160, 120))
    assert_close(target["boxes"][0], torch.tensor([20.0, 20, 80, 60]))
    assert_close(target["area"][0], torch.tensor(60.0 * 40))


class Broken(Rectangles):
    """Image 1 cannot be read."""

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        if index == 1:
            raise UserError("1.png cannot be decoded: truncated.")
        return super().__getitem__(index)


def test_an_unreadable_image_raises_or_is_replaced() -> None:
    data = Broken((10, 20, 60, 70))
    with pytest.raises(UserError, match=r"1\.png cannot be decoded"):
        augmented("basic", data)[1, 5]
    for seed in range(10):
        sample = augmented("basic", data, on_bad="skip")[1, seed]
        assert sample.name in ("0.png", "2.png")
        assert set(sample.skipped) == {("1.png", "1.png cannot be decoded: truncated.")}
        assert_close(augmented("basic", data, on_bad="skip")[1, seed].image, sample.image)
    assert augmented("basic", data, on_bad="skip")[0, 5].skipped == ()


def test_an_error_is_raised_if_no_image_can_be_read() -> None:
    class AllBroken(Rectangles):
        def __getitem__(self, index: int) -> tuple[Tensor, Target]:
            raise UserError(f"{index}.png is missing.")

    with pytest.raises(UserError, match="is missing"):
        augmented("basic", AllBroken(), on_bad="skip")[0, 5]


def test_a_batch_lists_all_skipped_images() -> None:
    image, target = torch.zeros(3, 2, 2), {"boxes": torch.zeros(0, 4)}
    batch = collate([Sample(image, target, "a", (("b", "bad"),)), Sample(image, target, "c")])
    assert batch.names == ["a", "c"]
    assert batch.skipped == [("b", "bad")]
