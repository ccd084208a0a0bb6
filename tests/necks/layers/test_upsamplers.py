"""Learned upsamplers: CARAFE, DySample and their operations."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import gradcheck
from torch.testing import assert_close

from drfpn.necks.layers.fusion import UpsampledAdd
from drfpn.necks.layers.upsamplers import CARAFEUpsampler, DySampleUpsampler, reassemble, sample_groups

both = pytest.mark.parametrize("dynamic_scope", [False, True], ids=["dysample", "dysample+"])


def naive(m: torch.Tensor, kernels: torch.Tensor, k: int) -> torch.Tensor:
    """Compute CARAFE's sum pixel by pixel, as in the paper."""
    n, c, h, w = m.shape
    out = m.new_zeros(n, c, 2 * h, 2 * w)
    for i in range(2 * h):
        for j in range(2 * w):
            for a in range(k):
                for b in range(k):
                    y, x = i // 2 + a - k // 2, j // 2 + b - k // 2
                    if 0 <= y < h and 0 <= x < w:
                        out[:, :, i, j] += m[:, :, y, x] * kernels[:, k * a + b, i, j, None]
    return out


@pytest.mark.parametrize("k", [3, 5])
@pytest.mark.parametrize("hw", [(4, 3), (1, 1), (2, 7)])
def test_reassembly_is_the_weighted_sum_of_all_neighbors(hw, k) -> None:
    h, w = hw
    m, kernels = torch.randn(2, 3, h, w), torch.randn(2, k * k, 2 * h, 2 * w)
    assert_close(reassemble(m, kernels), naive(m, kernels, k))


def test_reassembly_passes_gradcheck() -> None:
    m = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    kernels = torch.randn(1, 9, 6, 8, dtype=torch.float64, requires_grad=True)
    assert gradcheck(reassemble, (m, kernels), fast_mode=True)


def test_a_kernel_with_one_weight_shifts_the_map() -> None:
    m = torch.randn(1, 2, 4, 5)
    kernels = torch.zeros(1, 25, 8, 10)
    kernels[:, 5 * 2 + 3] = 1  # the neighbor on the right
    moved = F.pad(m, (0, 1))[..., 1:]
    assert_close(reassemble(m, kernels), F.interpolate(moved, scale_factor=2))


def box_and_nearest(coarse: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
    """CARAFE with uniform kernels: a box filter and nearest upsampling, cropped to the finer size."""
    upsampled = F.interpolate(F.avg_pool2d(coarse, 5, 1, 2, count_include_pad=True), scale_factor=2)
    upsampled = F.pad(upsampled, (0, 1, 0, 1), mode="replicate")
    return fine + upsampled[..., : fine.shape[-2], : fine.shape[-1]]


@pytest.mark.parametrize("hw", [(12, 16), (9, 14), (1, 3)])
@pytest.mark.parametrize("rounded_up", [True, False])
def test_carafe_starts_as_a_box_filter_before_nearest_upsampling_at_any_size(hw, rounded_up, pyramid_maps) -> None:
    fine, coarse = pyramid_maps((8, 8), *hw, rounded_up=rounded_up or hw[0] == 1)
    upsample = CARAFEUpsampler(8)
    nn.init.zeros_(upsample.encode.weight)
    assert_close(UpsampledAdd(upsample)(fine, coarse), box_and_nearest(coarse, fine))


def test_carafe_kernels_are_predicted_for_each_output_pixel_and_sum_to_one() -> None:
    upsample = CARAFEUpsampler(8)
    nn.init.normal_(upsample.encode.weight)
    m = torch.randn(2, 8, 4, 5)
    kernels = upsample.kernels(m)
    assert kernels.shape == (2, 25, 8, 10)
    assert_close(kernels.sum(dim=1), torch.ones(2, 8, 10))
    encoded = upsample.encode(upsample.compress(m)).unflatten(1, (25, 4))  # neighbor, then output pixel
    for sub in range(4):
        assert_close(kernels[:, :, sub // 2 :: 2, sub % 2 :: 2], encoded[:, :, sub].softmax(dim=1))


def test_carafe_kernels_are_in_full_precision_under_autocast() -> None:
    upsample = CARAFEUpsampler(8)
    m = torch.randn(1, 8, 4, 5)
    with torch.autocast("cpu", torch.bfloat16):
        assert upsample.kernels(m).dtype == torch.float32
        assert upsample(m.bfloat16()).dtype == torch.bfloat16


@both
@pytest.mark.parametrize("hw", [(12, 16), (9, 14), (1, 3)])
@pytest.mark.parametrize("rounded_up", [True, False])
def test_dysample_with_zero_offsets_is_bilinear_upsampling_by_two(hw, rounded_up, dynamic_scope, pyramid_maps) -> None:
    fine, coarse = pyramid_maps((8, 8), *hw, rounded_up=rounded_up or hw[0] == 1)
    upsample = DySampleUpsampler(8, dynamic_scope=dynamic_scope)
    nn.init.zeros_(upsample.offset.weight)
    twice = F.interpolate(coarse, scale_factor=2, mode="bilinear")
    assert_close(upsample(coarse), twice)
    cropped = F.pad(twice, (0, 1, 0, 1), mode="replicate")[..., : hw[0], : hw[1]]
    assert_close(UpsampledAdd(upsample)(fine, coarse), fine + cropped)


@both
def test_dysample_starts_nearly_as_bilinear_upsampling(dynamic_scope, pyramid_maps) -> None:
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
    bias = upsample.offset.bias.data.view(2, 2, 4)  # group, (x, y), output pixel
    bias[0, 0], bias[1, 1] = 4, -4  # the first group to the right, the second upwards
    moved = [F.pad(m, (0, 1, 0, 0), mode="replicate")[..., 1:], F.pad(m, (0, 0, 1, 0), mode="replicate")[..., :-1, :]]
    expected = torch.cat([moved[0][:, :4], moved[1][:, 4:]], dim=1)
    inside = (..., slice(2, -2), slice(2, -2))
    assert_close(upsample(m)[inside], F.interpolate(expected, scale_factor=2, mode="bilinear")[inside])


def test_each_of_the_four_output_pixels_has_its_own_offset(pyramid_maps) -> None:
    (m,) = pyramid_maps((4,), 6, 7)
    upsample = DySampleUpsampler(4, groups=1)
    nn.init.zeros_(upsample.offset.weight)
    upsample.offset.bias.data.view(2, 4)[:] = torch.tensor([[1.0, -1, 1, -1], [1, 1, -1, -1]])  # a quarter: the center
    assert_close(upsample(m), F.interpolate(m, scale_factor=2))


def test_groups_are_sampled_as_grid_sample_does_alone() -> None:
    m, offset = torch.randn(2, 6, 5, 4), torch.randn(2, 4, 7, 9)
    both = sample_groups(m, offset)
    assert both.shape == (2, 6, 7, 9)
    for group in range(2):
        part = sample_groups(m[:, 3 * group : 3 * group + 3], offset[:, 2 * group : 2 * group + 2])
        assert_close(both[:, 3 * group : 3 * group + 3], part)


@both
def test_dysample_passes_gradcheck(dynamic_scope, pyramid_maps) -> None:
    upsample = DySampleUpsampler(4, groups=2, dynamic_scope=dynamic_scope).double()
    for parameter in upsample.parameters():
        nn.init.normal_(parameter, std=0.3)
    (m,) = pyramid_maps((4,), 4, 3, batch=1, dtype=torch.float64)
    assert gradcheck(upsample, (m.requires_grad_(),), fast_mode=True)
