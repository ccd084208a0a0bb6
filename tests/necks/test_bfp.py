import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from drfpn import FPN
from drfpn.necks import ExtraConvs, LibraFPN
from drfpn.necks.bfp import BalancedFeatures

C = (4, 6, 8, 10)


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_it_adds_four_1x1_convolutions_to_fpn() -> None:
    r50 = (256, 512, 1024, 2048)
    with torch.device("meta"):
        assert size(LibraFPN(r50)) - size(FPN(r50)) == 263_168


def test_it_begins_as_fpn_plus_the_mean_of_all_levels(pyramid_maps) -> None:
    """Against the library's pooling; P3 and P4 do not divide by the coarser levels here."""
    maps = pyramid_maps(C, 37, 50)
    libra = LibraFPN(C, 8, LastLevelMaxPool())
    fpn = FPN(C, 8, LastLevelMaxPool())
    fpn.load_state_dict(libra.state_dict(), strict=False)
    levels = fpn(maps)
    size = levels[2].shape[-2:]
    mean = sum(F.adaptive_max_pool2d(m, size) for m in levels[:2]) / 5
    mean = mean + sum(F.interpolate(m, size=size) for m in levels[2:]) / 5
    scattered = [F.interpolate(mean, size=m.shape[-2:]) for m in levels[:2]]
    scattered += [F.adaptive_max_pool2d(mean, m.shape[-2:]) for m in levels[2:]]
    out = libra(maps)
    assert len(out) == 5  # the pooled level takes part
    assert_close([a - b for a, b in zip(out, levels, strict=True)], scattered)


def test_the_mean_has_the_size_of_p4_in_both_kinds_of_detectors() -> None:
    assert LibraFPN(C, 8, LastLevelMaxPool()).refine.gather == 2  # of P2..P6
    assert LibraFPN(C[1:], 8, ExtraConvs(10, 8)).refine.gather == 1  # of P3..P7


def test_levels_of_equal_content_stay_equal() -> None:
    levels = [torch.full((1, 3, side, side), 2.0) for side in (16, 8, 4, 2, 1)]
    out = BalancedFeatures(3, gather=2)(levels)
    assert_close(out, [2 * m for m in levels])
