import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torchvision import tv_tensors

from drfpn.data.augment.presets import make_transform
from drfpn.data.augment.random_tile import MIN_VISIBLE_FRACTION, RandomTile
from drfpn.data.augment.transformed_dataset import TransformedDataset
from drfpn.data.base import Target
from drfpn.data.synthetic.shapes import ShapesDataset

SIZE = (90, 140)


def sample(*boxes: tuple[int, int, int, int], masks: bool = True) -> tuple[Tensor, Target]:
    """Return an image whose pixels are their own positions, and elliptic masks in boxes."""
    height, width = SIZE
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    image = tv_tensors.Image(torch.stack([y, x, torch.zeros_like(x)]).to(torch.uint8))
    count = len(boxes)
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    target = {
        "boxes": tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=SIZE),
        "labels": torch.arange(count) + 1,
        "image_id": torch.tensor(5),
        "area": torch.ones(count),
        "iscrowd": torch.zeros(count, dtype=torch.int64),
    }
    if masks:
        ellipses = [
            ((2 * x + 1 - x1 - x2) / (x2 - x1)) ** 2 + ((2 * y + 1 - y1 - y2) / (y2 - y1)) ** 2 <= 1.001
            for x1, y1, x2, y2 in boxes
        ]
        target["masks"] = tv_tensors.Mask(torch.stack(ellipses).to(torch.uint8))
    return image, target


BOXES = ((5, 5, 17, 25), (40, 10, 100, 80), (110, 70, 130, 84), (60, 40, 68, 46))


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_objects_of_a_tile_are_where_they_were_and_others_are_dropped(masks, seed) -> None:
    torch.manual_seed(seed)
    image, target = sample(*BOXES, masks=masks)
    tile, cropped = RandomTile(64)(image, target)
    assert tile.shape == (3, 64, 64)
    top, left = tile[:2, 0, 0].tolist()
    assert torch.equal(tile, image[:, top : top + 64, left : left + 64])
    offset = torch.tensor([left, top, left, top])
    shifted = target["boxes"].as_subclass(Tensor) - offset
    visible = shifted.clamp(0, 64)
    fractions = (visible[:, 2:] - visible[:, :2]).prod(1) / (shifted[:, 2:] - shifted[:, :2]).prod(1)
    keep = fractions >= MIN_VISIBLE_FRACTION
    assert cropped["labels"].tolist() == (keep.nonzero()[:, 0] + 1).tolist()
    assert list(cropped) == list(target)
    assert cropped["image_id"] == 5
    assert len(cropped["area"]) == len(cropped["iscrowd"]) == keep.sum()
    assert cropped["boxes"].canvas_size == (64, 64)
    if not masks:
        assert_close(cropped["boxes"].as_subclass(Tensor), visible[keep])
        return
    assert torch.equal(cropped["masks"], target["masks"][keep][:, top : top + 64, left : left + 64])
    for box, mask, whole in zip(cropped["boxes"], cropped["masks"], fractions[keep] == 1, strict=True):
        rows, columns = mask.nonzero().unbind(1)
        tight = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
        assert_close(box.as_subclass(Tensor), tight, atol=1.0 if whole else 0.0, rtol=0.0)


def test_images_within_a_tile_stay_as_they_are_and_draw_no_random_numbers() -> None:
    image, target = sample(*BOXES)
    state = torch.get_rng_state()
    same, same_target = RandomTile(140)(image, target)
    assert same is image
    assert same_target is target
    assert torch.equal(torch.get_rng_state(), state)
    strip, _ = RandomTile(100)(image, target)
    assert strip.shape == (3, 90, 100)


def test_half_of_the_tiles_hold_a_small_object_and_the_others_are_anywhere() -> None:
    image, target = sample((2, 3, 8, 9), masks=False)
    counts = [len(RandomTile(32)(image, target)[1]["boxes"]) for _ in range(300)]
    assert 130 < sum(counts) < 190
    empty = sample(masks=False)
    corners = torch.stack([RandomTile(32)(*empty)[0][:2, 0, 0] for _ in range(200)])
    assert corners.amax(0).tolist() >= [50, 100]
    assert corners.amin(0).max() < 8


def test_tiles_come_before_the_other_transforms_and_depend_on_the_seed_alone() -> None:
    dataset = ShapesDataset("train", 3)
    transform = make_transform("basic", hflip_prob=0.5, min_size=64, max_size=96, tile=48)
    tiles = TransformedDataset(dataset, transform)
    first, second = tiles[1, 7], tiles[1, 7]
    assert first.image.shape == (3, 48, 48)
    assert torch.equal(first.image, second.image)
    assert torch.equal(first.target["boxes"], second.target["boxes"])
    assert first.target["masks"].shape[1:] == (48, 48)
    assert not torch.equal(first.image, tiles[1, 8].image)
