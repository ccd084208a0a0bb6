import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import gradcheck
from torch.testing import assert_close

from drfpn.necks import FPN, DySample
from drfpn.necks.dysample import DySampleUpsampler, sample_groups
from drfpn.necks.fpn import UpsampledAdd
from drfpn.utils.errors import UserError

R50 = (256, 512, 1024, 2048)
both = pytest.mark.parametrize("dynamic_scope", [False, True], ids=["dysample", "dysample+"])


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("dynamic_scope", "parameters"), [(False, 8_224), (True, 16_416)])
def test_the_parameters_are_those_of_the_paper(dynamic_scope, parameters) -> None:
    with torch.device("meta"):
        assert size(DySampleUpsampler(256, dynamic_scope=dynamic_scope)) == parameters
        assert size(DySample(R50, dynamic_scope=dynamic_scope)) - size(FPN(R50)) == 3 * parameters


@both
@pytest.mark.parametrize("hw", [(12, 16), (9, 14), (1, 3)])
@pytest.mark.parametrize("rounded_up", [True, False])
def test_without_offsets_it_is_bilinear_upsampling_by_two(hw, rounded_up, dynamic_scope, pyramid_maps) -> None:
    fine, coarse = pyramid_maps((8, 8), *hw, rounded_up=rounded_up or hw[0] == 1)
    upsample = DySampleUpsampler(8, dynamic_scope=dynamic_scope)
    nn.init.zeros_(upsample.offset.weight)
    twice = F.interpolate(coarse, scale_factor=2, mode="bilinear")
    assert_close(upsample(coarse), twice)
    fitted = F.pad(twice, (0, 1, 0, 1), mode="replicate")[..., : hw[0], : hw[1]]
    assert_close(UpsampledAdd(upsample)(fine, coarse), fine + fitted)


@both
def test_it_begins_so_but_for_a_thousandth(dynamic_scope, pyramid_maps) -> None:
    (m,) = pyramid_maps((64,), 8, 12)
    difference = DySampleUpsampler(64, dynamic_scope=dynamic_scope)(m) - F.interpolate(
        m, scale_factor=2, mode="bilinear"
    )
    assert 0 < difference.std() < 0.01


@both
def test_an_offset_of_four_moves_each_group_by_a_pixel_of_the_map(dynamic_scope, pyramid_maps) -> None:
    (m,) = pyramid_maps((8,), 6, 7)
    upsample = DySampleUpsampler(8, groups=2, dynamic_scope=dynamic_scope)
    nn.init.zeros_(upsample.offset.weight)
    bias = upsample.offset.bias.data.view(2, 2, 4)  # group, (x, y), new pixel
    bias[0, 0], bias[1, 1] = 4, -4  # the first group to the right, the second upwards
    moved = [F.pad(m, (0, 1, 0, 0), mode="replicate")[..., 1:], F.pad(m, (0, 0, 1, 0), mode="replicate")[..., :-1, :]]
    expected = torch.cat([moved[0][:, :4], moved[1][:, 4:]], dim=1)
    inside = (..., slice(2, -2), slice(2, -2))
    assert_close(upsample(m)[inside], F.interpolate(expected, scale_factor=2, mode="bilinear")[inside])


def test_each_of_the_four_new_pixels_has_an_offset_of_its_own(pyramid_maps) -> None:
    (m,) = pyramid_maps((4,), 6, 7)
    upsample = DySampleUpsampler(4, groups=1)
    nn.init.zeros_(upsample.offset.weight)
    upsample.offset.bias.data.view(2, 4)[:] = torch.tensor([[1.0, -1, 1, -1], [1, 1, -1, -1]])  # a quarter: the centre
    assert_close(upsample(m), F.interpolate(m, scale_factor=2))


def test_groups_are_sampled_as_grid_sample_does_alone() -> None:
    m, offset = torch.randn(2, 6, 5, 4), torch.randn(2, 4, 7, 9)
    both = sample_groups(m, offset)
    assert both.shape == (2, 6, 7, 9)
    for group in range(2):
        part = sample_groups(m[:, 3 * group : 3 * group + 3], offset[:, 2 * group : 2 * group + 2])
        assert_close(both[:, 3 * group : 3 * group + 3], part)


@both
def test_it_passes_gradcheck(dynamic_scope, pyramid_maps) -> None:
    upsample = DySampleUpsampler(4, groups=2, dynamic_scope=dynamic_scope).double()
    for parameter in upsample.parameters():
        nn.init.normal_(parameter, std=0.3)
    (m,) = pyramid_maps((4,), 4, 3, batch=1, dtype=torch.float64)
    assert gradcheck(upsample, (m.requires_grad_(),), fast_mode=True)


def test_channels_that_cannot_be_grouped_are_named() -> None:
    with pytest.raises(UserError, match="4 groups of channels, of which 10 is no multiple"):
        DySample((4, 6), 10)
