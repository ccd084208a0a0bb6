import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import gradcheck
from torch.testing import assert_close
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool

from drfpn.necks import CARAFE, FPN, ExtraConvs
from drfpn.necks.carafe import CARAFEUpsampler, reassemble
from drfpn.necks.fpn import UpsampledAdd
from drfpn.utils.errors import UserError

R50 = (256, 512, 1024, 2048)


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_the_parameters_are_those_of_the_paper() -> None:
    with torch.device("meta"):
        assert size(CARAFEUpsampler(256)) == 74_148
        assert size(CARAFE(R50)) - size(FPN(R50)) == 3 * 74_148 == 222_444
        assert size(CARAFE(R50, 256, LastLevelMaxPool(), layout="mmdet")) == 8_949_904


def naive(m: torch.Tensor, kernels: torch.Tensor, k: int) -> torch.Tensor:
    """CARAFE's sum as its paper writes it, pixel by pixel."""
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
def test_reassembling_is_the_sum_over_all_neighbours(hw, k) -> None:
    h, w = hw
    m, kernels = torch.randn(2, 3, h, w), torch.randn(2, k * k, 2 * h, 2 * w)
    assert_close(reassemble(m, kernels), naive(m, kernels, k))


def test_reassembling_passes_gradcheck() -> None:
    m = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    kernels = torch.randn(1, 9, 6, 8, dtype=torch.float64, requires_grad=True)
    assert gradcheck(reassemble, (m, kernels), fast_mode=True)


def test_a_kernel_of_one_pixel_moves_the_map() -> None:
    m = torch.randn(1, 2, 4, 5)
    kernels = torch.zeros(1, 25, 8, 10)
    kernels[:, 5 * 2 + 3] = 1  # the neighbour on the right
    moved = F.pad(m, (0, 1))[..., 1:]
    assert_close(reassemble(m, kernels), F.interpolate(moved, scale_factor=2))


def box_and_nearest(coarse: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
    """What CARAFE is where all kernels are uniform: a box filter and nearest upsampling, cut to the finer size."""
    upsampled = F.interpolate(F.avg_pool2d(coarse, 5, 1, 2, count_include_pad=True), scale_factor=2)
    upsampled = F.pad(upsampled, (0, 1, 0, 1), mode="replicate")
    return fine + upsampled[..., : fine.shape[-2], : fine.shape[-1]]


@pytest.mark.parametrize("hw", [(12, 16), (9, 14), (1, 3)])
@pytest.mark.parametrize("rounded_up", [True, False])
def test_it_begins_as_a_box_filter_before_nearest_upsampling_at_any_size(hw, rounded_up, pyramid_maps) -> None:
    fine, coarse = pyramid_maps((8, 8), *hw, rounded_up=rounded_up or hw[0] == 1)
    upsample = CARAFEUpsampler(8)
    nn.init.zeros_(upsample.encode.weight)
    assert_close(UpsampledAdd(upsample)(fine, coarse), box_and_nearest(coarse, fine))


def test_kernels_are_predicted_for_each_new_pixel_and_sum_to_one() -> None:
    upsample = CARAFEUpsampler(8)
    nn.init.normal_(upsample.encode.weight)
    m = torch.randn(2, 8, 4, 5)
    kernels = upsample.kernels(m)
    assert kernels.shape == (2, 25, 8, 10)
    assert_close(kernels.sum(dim=1), torch.ones(2, 8, 10))
    encoded = upsample.encode(upsample.compress(m)).unflatten(1, (25, 4))  # neighbour, then new pixel
    for sub in range(4):
        assert_close(kernels[:, :, sub // 2 :: 2, sub % 2 :: 2], encoded[:, :, sub].softmax(dim=1))


def test_kernels_are_in_full_precision_under_autocast() -> None:
    upsample = CARAFEUpsampler(8)
    m = torch.randn(1, 8, 4, 5)
    with torch.autocast("cpu", torch.bfloat16):
        assert upsample.kernels(m).dtype == torch.float32
        assert upsample(m.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("extra", "names"), [(LastLevelMaxPool(), ["pool"]), (ExtraConvs(10, 8), ["p6", "p7"]), (None, [])], ids=str
)
def test_levels_of_mmdetections_layout_begin_the_top_down_path(extra, names, pyramid_maps) -> None:
    """Written out: strided convolutions on C5 and one another, each joined with the level below it."""
    channels = (4, 6, 10)
    pyramid = CARAFE(channels, 8, extra, layout="mmdet")
    maps = dict(zip("123", pyramid_maps(channels, 33, 50), strict=True))
    laterals = [conv(m) for conv, m in zip([*pyramid.lateral, pyramid.top], maps.values(), strict=True)]
    m = maps["3"]
    for conv in pyramid.coarser.steps:
        m = conv(m)
        laterals.append(m)
    for i in reversed(range(len(laterals) - 1)):
        upsampled = pyramid.top_down.steps[i].upsample(laterals[i + 1])
        laterals[i] = laterals[i] + upsampled[..., : laterals[i].shape[-2], : laterals[i].shape[-1]]
    expected = [conv(m) for conv, m in zip(pyramid.smooth, laterals, strict=True)]
    assert_close(pyramid(maps), dict(zip([*"123", *names], expected, strict=True)))
    assert size(pyramid.coarser) == sum(9 * n * 8 + 8 for n in [10, 8][: len(names)])


class Own(ExtraFPNBlock):
    pass


def test_what_cannot_be_laid_out_is_named() -> None:
    with pytest.raises(UserError, match="layout must be 'fpn' or 'mmdet', not 'mmdetection'"):
        CARAFE((4, 6), 8, layout="mmdetection")
    with pytest.raises(UserError, match="cannot tell which Own would add"):
        CARAFE((4, 6), 8, Own(), layout="mmdet")
