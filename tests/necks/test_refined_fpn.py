import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from drfpn import FPN
from drfpn.necks import RefinedFPN
from drfpn.necks.fpn import ScaledAdd
from drfpn.necks.refined_fpn import RefinedAdd
from drfpn.utils.errors import UserError

R50 = (256, 512, 1024, 2048)


def test_it_begins_as_half_of_the_refined_coarse_map_on_top_of_the_fine_one(pyramid_maps) -> None:
    fine, coarse = pyramid_maps((16, 16), 9, 14)
    block = RefinedAdd(16)
    refined = F.interpolate(block.refine(coarse).relu(), size=(9, 14), mode="nearest")
    assert_close(block(fine, coarse), fine + 0.5 * refined)


def test_a_weight_is_that_of_its_pixel_and_its_group_of_channels(pyramid_maps) -> None:
    fine, coarse = pyramid_maps((16, 16), 8, 12)
    block = RefinedAdd(16)
    with torch.no_grad():
        block.weight.bias[3] = 100  # the fourth of eight groups of two channels
    refined = F.interpolate(block.refine(coarse).relu(), size=(8, 12), mode="nearest")
    expected = 0.5 * refined
    expected[:, 6:8] *= 2
    assert_close(block(fine, coarse), fine + expected)


def test_weights_are_read_from_both_maps(pyramid_maps) -> None:
    fine, coarse = pyramid_maps((16, 16), 8, 12)
    block = RefinedAdd(16)
    nn.init.normal_(block.weight.weight)
    assert not torch.equal(block(fine, coarse) - fine, block(fine + 1, coarse) - (fine + 1))
    assert block.project_coarse.weight.requires_grad


def test_multiply_adds_of_a_whole_pyramid_are_those_of_its_layers() -> None:
    """72.9 G at 800 x 1280 and width 256, where FPN has 58.0 G."""
    assert round(macs(FPN) / 1e9, 1) == 58.0
    assert round(macs(RefinedFPN) / 1e9, 1) == 72.9


def macs(make: type[nn.Module]) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        pyramid = make(R50)
        maps = [torch.empty(1, c, 200 >> i, 320 >> i) for i, c in enumerate(R50)]
    with FlopCounterMode(display=False) as counter:
        pyramid(maps)
    return counter.get_total_flops() // 2


def test_channels_that_cannot_be_grouped_are_refused() -> None:
    with pytest.raises(UserError, match="8 groups of channels, of which 20 is no multiple"):
        RefinedAdd(20)


def test_a_learned_scale_is_that_of_the_upsampled_map(pyramid_maps) -> None:
    fine, coarse = pyramid_maps((4, 4), 9, 14)
    step = ScaledAdd()
    with torch.no_grad():
        step.scale.fill_(0.3)
    assert_close(step(fine, coarse), fine + 0.3 * F.interpolate(coarse, size=(9, 14), mode="nearest"))
