"""Anchors are torchvision's, in float32 whatever the levels are."""

import pytest
import torch
from torch.testing import assert_close
from torchvision.models.detection import anchor_utils
from torchvision.models.detection.image_list import ImageList

from drfpn import build_detector
from drfpn.detectors import DETECTORS
from drfpn.detectors.anchors import AnchorGenerator
from tests.detectors.scenes import SMALL, scene

SIZES = ((32,), (64,), (128,))
RATIOS = ((0.5, 1.0, 2.0),) * 3
HEIGHT, WIDTH = 800, 1344


def levels(dtype: torch.dtype, height: int = HEIGHT, width: int = WIDTH) -> list[torch.Tensor]:
    return [torch.zeros(2, 1, -(-height // stride), -(-width // stride), dtype=dtype) for stride in (4, 8, 16)]


def batch(height: int = HEIGHT, width: int = WIDTH) -> ImageList:
    return ImageList(torch.zeros(2, 3, height, width), [(height, width), (height - 10, width - 20)])


@pytest.mark.parametrize("size", [(800, 1344), (64, 96), (131, 77)])
def test_they_are_torchvisions(size) -> None:
    ours = AnchorGenerator(SIZES, RATIOS)(batch(*size), levels(torch.float32, *size))
    theirs = anchor_utils.AnchorGenerator(SIZES, RATIOS)(batch(*size), levels(torch.float32, *size))
    assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_levels_of_16_bits_neither_round_them_nor_those_made_later(dtype) -> None:
    generator = AnchorGenerator(SIZES, RATIOS)
    exact = generator(batch(), levels(torch.float32))
    assert_close(generator(batch(), levels(dtype)), exact, rtol=0, atol=0)
    assert_close(generator(batch(), levels(torch.float32)), exact, rtol=0, atol=0)
    assert {anchors.dtype for anchors in generator.cell_anchors} == {torch.float32}


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_makes_them_so_in_training_and_in_evaluation(name) -> None:
    with torch.device("meta"):
        model = build_detector(f"{name}_lite0_drfpn", 3, **SMALL[name])
    assert type(getattr(model, "rpn", model).anchor_generator) is AnchorGenerator


@pytest.mark.slow
@pytest.mark.parametrize("name", ["faster_rcnn", "retinanet", "fcos"])
def test_training_on_a_wide_image_in_bfloat16_has_the_anchors_of_float32(name) -> None:
    model = build_detector(f"{name}_lite0_drfpn", 3, **SMALL[name] | {"min_size": 64, "max_size": WIDTH}).train()
    images, targets = scene((64, WIDTH))
    made = []
    generator = getattr(model, "rpn", model).anchor_generator
    generator.register_forward_hook(lambda module, inputs, anchors: made.append((inputs[1][0].dtype, anchors[0])))
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            model(images, targets)
    (full, exact), (half, rounded) = made
    assert (full, half) == (torch.float32, torch.bfloat16)
    assert exact[:, 2].max() > 1300
    assert_close(rounded, exact, rtol=0, atol=0)
