import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from drfpn import FPN
from drfpn.necks import SEPC, PConvFPN
from drfpn.necks.layers.dcn import OFFSET_UNIT
from drfpn.necks.pconv import DeformableLevelConv, IntegratedBatchNorm, LevelConv, PyramidConv
from drfpn.utils.errors import UsageError

C = (4, 6, 8, 10)
R50 = (256, 512, 1024, 2048)


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_four_add_twelve_3x3_convolutions_to_fpn() -> None:
    with torch.device("meta"):
        assert size(PConvFPN(R50)) - size(FPN(R50)) == 7_080_960
        assert size(PConvFPN(R50, norm=True)) - size(PConvFPN(R50)) == 4 * 512
        assert size(SEPC(R50)) - size(PConvFPN(R50, norm=True)) == 12 * 41_490


def test_each_level_reads_itself_and_both_its_neighbors(pyramid_maps) -> None:
    """As one sum, with levels of odd sizes that round up."""
    fine, middle, coarse = pyramid_maps((8, 8, 8), 21, 14)
    conv = PyramidConv(8)
    for p in conv.parameters():
        nn.init.normal_(p, std=0.1)
    up = F.interpolate(conv.coarser(coarse), size=middle.shape[-2:], mode="bilinear", align_corners=True)
    expected = (conv.finer(fine) + conv.same(middle) + up).relu()
    out = conv([fine, middle, coarse])
    assert_close(out[1], expected)
    assert_close(out[2], (conv.finer(middle) + conv.same(coarse)).relu())  # there is no coarser level


def test_the_stack_includes_the_extra_levels(pyramid_maps) -> None:
    maps = pyramid_maps(C)
    neck, fpn = PConvFPN(C, 8, LastLevelMaxPool(), layers=2), FPN(C, 8, LastLevelMaxPool())
    fpn.load_state_dict(neck.state_dict(), strict=False)
    first, second = neck.refine
    assert_close(neck(maps), second(first(fpn(maps))))


def test_batchnorm_statistics_are_over_all_levels(pyramid_maps) -> None:
    levels = pyramid_maps((3, 3, 3), 7, 10)
    out = IntegratedBatchNorm(3).train()(levels)
    together = torch.cat([m.transpose(0, 1).flatten(1) for m in out], dim=1)
    assert_close(together.mean(1), torch.zeros(3), atol=1e-5, rtol=0)
    assert_close(together.var(1, unbiased=False), torch.ones(3), atol=1e-4, rtol=0)
    assert_close([m.shape for m in out], [m.shape for m in levels])
    assert abs(out[2].mean()) > 1e-3  # a single level is not


def test_deformable_convolutions_start_as_plain_ones_and_are_plain_for_the_finest_level() -> None:
    conv, m = DeformableLevelConv(8, stride=2), torch.randn(2, 8, 11, 14)
    plain = LevelConv(8, stride=2)
    plain.load_state_dict(conv.state_dict(), strict=False)
    assert_close(conv.forward_level(m, 1), plain(m))
    nn.init.normal_(conv.offset.bias)
    assert_close(conv.forward_level(m, 0), plain(m))
    assert not torch.allclose(conv.forward_level(m, 1), plain(m))


def test_an_offset_of_a_pixel_reads_the_neighbor() -> None:
    conv, m = DeformableLevelConv(8), torch.randn(1, 8, 9, 9)
    conv.offset.bias.data[1::2] = 1 / OFFSET_UNIT  # x of each point
    shifted = F.pad(m, (0, 1))[..., 1:]
    assert_close(conv.forward_level(m, 1)[..., 1:-1, 1:-2], conv(shifted)[..., 1:-1, 1:-2])


def test_nan_offsets_give_nan() -> None:
    conv, m = DeformableLevelConv(8), torch.randn(1, 8, 9, 9)
    m[0, 0, 4, 4] = torch.nan
    nn.init.normal_(conv.offset.weight)
    assert conv.forward_level(m, 1).isnan().any()
    assert conv.forward_level(m, 1)[..., 0, 0].isfinite().all()


def test_at_least_one_layer_is_needed() -> None:
    with pytest.raises(UsageError, match="at least 1, not 0"):
        PConvFPN(C, layers=0)
