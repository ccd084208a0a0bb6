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


def test_it_has_the_parameters_of_the_release() -> None:
    with torch.device("meta"):
        pyramid = AugFPN((256, 512, 1024, 2048))
    assert size(pyramid) == 5_121_795
    assert size(pyramid.augment) == 1_777_411


def test_without_context_it_is_fpn(pyramid_maps) -> None:
    augfpn, fpn = AugFPN(C, 8, LastLevelMaxPool()), FPN(C, 8, LastLevelMaxPool())
    fpn.load_state_dict(augfpn.state_dict(), strict=False)
    for p in augfpn.augment.project.parameters():
        nn.init.zeros_(p)
    maps = pyramid_maps(C, 37, 50)
    assert_close(augfpn(maps), fpn(maps), rtol=0, atol=0)


@pytest.mark.parametrize("height_width", [(25, 42), (20, 30), (9, 7), (1, 1)])
def test_the_context_is_the_sum_of_three_grids_by_their_weights(height_width) -> None:
    module, c = ResidualFeatureAugmentation(10, 8), torch.randn(2, 10, *height_width)
    grids = []
    for share, conv in zip((0.1, 0.2, 0.3), module.project, strict=True):
        cells = [max(1, int(side * share)) for side in height_width]
        pooled = conv(F.adaptive_avg_pool2d(c, cells))
        grids.append(F.interpolate(pooled, size=height_width, mode="bilinear", align_corners=True))
    first, last = module.weigh[0], module.weigh[2]
    weights = last(first(torch.cat(grids, dim=1)).relu()).sigmoid()
    expected = sum(weights[:, i : i + 1] * grid for i, grid in enumerate(grids))
    assert_close(module(c), expected, rtol=1e-5, atol=1e-5)


def test_laterals_follow_in_training_where_they_are_wanted(pyramid_maps) -> None:
    maps = dict(zip("0123", pyramid_maps(C), strict=True))
    pyramid = AugFPN(C, 8, LastLevelMaxPool()).train()
    names = [*"0123", "pool"]
    assert list(pyramid(maps)) == names
    pyramid.hands_on_laterals = True
    out = pyramid(maps)
    assert list(out) == [*names, "lateral_0", "lateral_1", "lateral_2", "lateral_3"]
    assert_close(out["lateral_0"], pyramid.lateral[0](maps["0"]))
    assert_close(out["lateral_3"], pyramid.top(maps["3"]))  # as it was before the augmentation
    assert list(pyramid.eval()(maps)) == names
