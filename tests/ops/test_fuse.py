"""BatchNorms folded into convolutions."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from drfpn import DRFPN
from drfpn.backbones import TimmBackbone
from drfpn.necks import NECKS
from drfpn.ops import fuse


def randomize_norms(module: nn.Module) -> nn.Module:
    """Give BatchNorms random statistics, scales and shifts."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.running_mean, std=0.2)
            nn.init.uniform_(norm.running_var, 0.5, 2)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, std=0.2)
    return module.eval()


def norms(module: nn.Module) -> int:
    return sum(isinstance(m, nn.BatchNorm2d) for m in module.modules())


@pytest.mark.parametrize("name", ["r18", "lite0", "lip_r50"])
def test_a_backbone_keeps_its_outputs_without_norms(name) -> None:
    body = randomize_norms(TimmBackbone(name)).double()
    image = torch.randn(1, 3, 96, 128, dtype=torch.float64)
    fused = fuse(body, image[..., :64, :64])
    assert norms(body) > 10
    assert norms(fused) == 0
    assert_close(fused(image), body(image))


@pytest.mark.parametrize("name", [name for name in NECKS if name not in ("simple_fpn", "fpt")])
def test_every_neck_keeps_its_outputs(name, pyramid_maps) -> None:
    neck = randomize_norms(NECKS[name]((8, 12, 16, 20), 16)).double()
    maps = pyramid_maps((8, 12, 16, 20), 33, 48, dtype=torch.float64)
    with torch.no_grad():
        assert_close(neck.fuse()(maps), neck(maps))


def test_the_release_has_no_norm_left_and_the_original_is_unchanged(pyramid_maps) -> None:
    neck = randomize_norms(DRFPN((8, 12), 16, convention="release"))
    before = {name: value.clone() for name, value in neck.state_dict().items()}
    assert norms(neck) == 2
    assert norms(neck.fuse()) == 0
    assert_close(neck.state_dict(), before)


class Shared(nn.Module):
    """A convolution that two norms read, one that runs twice, and a norm without a convolution before it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.twice = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(2) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b, c = self.norms
        y = self.conv(a(x))
        return b(y) + c(y) + b(self.twice(self.twice(x)))


def test_norms_that_cannot_be_folded_stay() -> None:
    model, x = randomize_norms(Shared()).double(), torch.randn(1, 2, 4, 4, dtype=torch.float64)
    fused = fuse(model, x)
    assert norms(fused) == 3
    assert_close(fused(x), model(x))
