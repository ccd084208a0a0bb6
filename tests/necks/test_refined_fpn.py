import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from drfpn import FPN
from drfpn.necks import RefinedFPN
from drfpn.necks.refined_fpn import RefinedAdd
from drfpn.utils.errors import UsageError

R50 = (256, 512, 1024, 2048)


def test_it_starts_by_adding_half_of_the_convolved_coarse_map(pyramid_maps) -> None:
    fine, coarse = pyramid_maps((16, 16), 9, 14)
    block = RefinedAdd(16)
    refined = F.interpolate(block.refine(coarse).relu(), size=(9, 14), mode="nearest")
    assert_close(block(fine, coarse), fine + 0.5 * refined)


def test_each_group_of_channels_has_its_own_weight(pyramid_maps) -> None:
    fine, coarse = pyramid_maps((16, 16), 8, 12)
    block = RefinedAdd(16)
    with torch.no_grad():
        block.weight.bias[3] = 100  # the fourth of eight groups of two channels
    refined = F.interpolate(block.refine(coarse).relu(), size=(8, 12), mode="nearest")
    expected = 0.5 * refined
    expected[:, 6:8] *= 2
    assert_close(block(fine, coarse), fine + expected)


def test_weights_are_predicted_from_both_maps(pyramid_maps) -> None:
    fine, coarse = pyramid_maps((16, 16), 8, 12)
    block = RefinedAdd(16)
    nn.init.normal_(block.weight.weight)
    assert not torch.equal(block(fine, coarse) - fine, block(fine + 1, coarse) - (fine + 1))
    assert block.project_coarse.weight.requires_grad


def test_multiply_adds_are_the_sum_of_its_layers() -> None:
    """72.9 G at 800 x 1280 and width 256, where FPN has 58.0 G."""
    assert round(macs(FPN) / 1e9, 1) == 58.0
    assert round(macs(RefinedFPN) / 1e9, 1) == 72.9


def macs(make: type[nn.Module]) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        neck = make(R50)
        maps = [torch.empty(1, c, 200 >> i, 320 >> i) for i, c in enumerate(R50)]
    with FlopCounterMode(display=False) as counter:
        neck(maps)
    return counter.get_total_flops() // 2


def test_channels_must_be_a_multiple_of_the_groups() -> None:
    with pytest.raises(UsageError, match="a multiple of its 8 groups, not 20"):
        RefinedAdd(20)
