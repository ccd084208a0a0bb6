import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from drfpn import FPN
from drfpn.necks import BFP, ExtraConvs
from drfpn.necks.bfp import BalancedFeatures

C = (4, 6, 8, 10)


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_it_adds_four_1x1_convolutions_to_fpn() -> None:
    r50 = (256, 512, 1024, 2048)
    with torch.device("meta"):
        assert size(BFP(r50)) - size(FPN(r50)) == 263_168


def test_it_starts_as_fpn_plus_the_mean_of_all_levels(pyramid_maps) -> None:
    """Compared with torch's pooling; the sizes of P2 and P3 are not multiples of those of the coarser levels."""
    maps = pyramid_maps(C, 37, 50)
    bfp = BFP(C, 8, LastLevelMaxPool())
    fpn = FPN(C, 8, LastLevelMaxPool())
    fpn.load_state_dict(bfp.state_dict(), strict=False)
    levels = fpn(maps)
    size = levels[2].shape[-2:]
    mean = sum(F.adaptive_max_pool2d(m, size) for m in levels[:2]) / 5
    mean = mean + sum(F.interpolate(m, size=size) for m in levels[2:]) / 5
    expected = [F.interpolate(mean, size=m.shape[-2:]) for m in levels[:2]]
    expected += [F.adaptive_max_pool2d(mean, m.shape[-2:]) for m in levels[2:]]
    out = bfp(maps)
    assert len(out) == 5  # the pooled level is included
    assert_close([a - b for a, b in zip(out, levels, strict=True)], expected)


def test_the_mean_has_the_size_of_p4_in_two_and_one_stage_detectors() -> None:
    assert BFP(C, 8, LastLevelMaxPool()).refine.refine_level == 2  # of P2..P6
    assert BFP(C[1:], 8, ExtraConvs(10, 8)).refine.refine_level == 1  # of P3..P7


def test_levels_of_equal_content_stay_equal() -> None:
    levels = [torch.full((1, 3, side, side), 2.0) for side in (16, 8, 4, 2, 1)]
    out = BalancedFeatures(3, refine_level=2)(levels)
    assert_close(out, [2 * m for m in levels])
