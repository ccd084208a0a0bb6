import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool

from drfpn.necks import CARAFE, FPN, ExtraConvs
from drfpn.necks.layers.upsamplers import CARAFEUpsampler
from drfpn.utils.errors import UsageError

R50 = (256, 512, 1024, 2048)


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_the_parameters_are_those_of_the_paper() -> None:
    with torch.device("meta"):
        assert size(CARAFEUpsampler(256)) == 74_148
        assert size(CARAFE(R50)) - size(FPN(R50)) == 3 * 74_148 == 222_444
        assert size(CARAFE(R50, 256, LastLevelMaxPool(), layout="mmdet")) == 8_949_904


@pytest.mark.parametrize(
    ("extra", "names"), [(LastLevelMaxPool(), ["pool"]), (ExtraConvs(10, 8), ["p6", "p7"]), (None, [])], ids=str
)
def test_extra_levels_of_mmdetections_layout_are_in_the_top_down_path(extra, names, pyramid_maps) -> None:
    """Strided convolutions on C5 and on each other, each fused with the next finer level."""
    channels = (4, 6, 10)
    neck = CARAFE(channels, 8, extra, layout="mmdet")
    maps = dict(zip("123", pyramid_maps(channels, 33, 50), strict=True))
    laterals = [conv(m) for conv, m in zip([*neck.lateral, neck.top], maps.values(), strict=True)]
    m = maps["3"]
    for conv in neck.coarser.steps:
        m = conv(m)
        laterals.append(m)
    for i in reversed(range(len(laterals) - 1)):
        upsampled = neck.top_down.steps[i].upsample(laterals[i + 1])
        laterals[i] = laterals[i] + upsampled[..., : laterals[i].shape[-2], : laterals[i].shape[-1]]
    expected = [conv(m) for conv, m in zip(neck.smooth, laterals, strict=True)]
    assert_close(neck(maps), dict(zip([*"123", *names], expected, strict=True)))
    assert size(neck.coarser) == sum(9 * n * 8 + 8 for n in [10, 8][: len(names)])


class Own(ExtraFPNBlock):
    pass


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(UsageError, match="`layout` must be 'fpn' or 'mmdet', not 'mmdetection'"):
        CARAFE((4, 6), 8, layout="mmdetection")
    with pytest.raises(UsageError, match="Own adds are not known"):
        CARAFE((4, 6), 8, Own(), layout="mmdet")
