import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from drfpn import FPN
from drfpn.necks import AugFPN
from drfpn.necks.augfpn import ResidualFeatureAugmentation

C = (4, 6, 8, 10)


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_it_has_the_parameters_of_the_authors_code() -> None:
    with torch.device("meta"):
        neck = AugFPN((256, 512, 1024, 2048))
    assert size(neck) == 5_121_795
    assert size(neck.augment) == 1_777_411


def test_without_context_it_is_fpn(pyramid_maps) -> None:
    augfpn, fpn = AugFPN(C, 8, LastLevelMaxPool()), FPN(C, 8, LastLevelMaxPool())
    fpn.load_state_dict(augfpn.state_dict(), strict=False)
    for p in augfpn.augment.project.parameters():
        nn.init.zeros_(p)
    maps = pyramid_maps(C, 37, 50)
    assert_close(augfpn(maps), fpn(maps), rtol=0, atol=0)


@pytest.mark.parametrize("height_width", [(25, 42), (20, 30), (9, 7), (1, 1)])
def test_the_context_is_the_weighted_sum_of_three_grids(height_width) -> None:
    module, c = ResidualFeatureAugmentation(10, 8), torch.randn(2, 10, *height_width)
    grids = []
    for ratio, conv in zip((0.1, 0.2, 0.3), module.project, strict=True):
        bins = [max(1, int(side * ratio)) for side in height_width]
        pooled = conv(F.adaptive_avg_pool2d(c, bins))
        grids.append(F.interpolate(pooled, size=height_width, mode="bilinear", align_corners=True))
    first, last = module.weigh[0], module.weigh[2]
    weights = last(first(torch.cat(grids, dim=1)).relu()).sigmoid()
    expected = sum(weights[:, i : i + 1] * grid for i, grid in enumerate(grids))
    assert_close(module(c), expected, rtol=1e-5, atol=1e-5)


def test_laterals_are_returned_beside_the_levels_as_they_are_before_the_augmentation(pyramid_maps) -> None:
    maps = dict(zip("0123", pyramid_maps(C), strict=True))
    neck = AugFPN(C, 8, LastLevelMaxPool()).train()
    expected = neck(maps)
    levels, laterals = neck.forward_with_laterals(maps)
    assert list(levels) == [*"0123", "pool"]
    assert_close(levels, expected)
    assert_close(laterals, {key: conv(maps[key]) for key, conv in zip("0123", [*neck.lateral, neck.top], strict=True)})
