import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool, LastLevelP6P7

from drfpn.necks import BiFPN
from drfpn.necks.bifpn import BiFPNLayer, FusionNode
from drfpn.utils.errors import UsageError

R50 = (512, 1024, 2048)


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_the_parameters_are_the_sum_of_its_layers() -> None:
    """Of a layer: eight convolutions, and 4 x 2 + 3 x 3 + 2 weights."""
    w = 256
    separable = 9 * w + w * w + w + 2 * w
    project = [n * w + w + 2 * w for n in R50]
    with torch.device("meta"):
        assert size(BiFPNLayer(w, 5)) == 8 * separable + 19 == 548_883
        neck = BiFPN(R50, w, LastLevelP6P7(w, w))
    assert size(neck) == 3 * 548_883 + project[0] + 2 * project[1] + 3 * project[2] == 3_879_481


def test_a_node_starts_as_the_mean_and_ignores_maps_of_negative_weight() -> None:
    a, b = torch.randn(2, 8, 5, 6), torch.randn(2, 8, 5, 6)
    node = FusionNode(8, 2).eval()
    assert_close(node(a, b), node.conv(F.silu((a + b) / (2 + 1e-4))))
    node.weights.data[:] = torch.tensor([3.0, -1.0])
    assert_close(node(a, b), node.conv(F.silu(a * 3 / (3 + 1e-4))))


def test_running_statistics_converge_within_a_hundred_steps(pyramid_maps) -> None:
    """A training on a few hundred images has two hundred steps."""
    maps = pyramid_maps((8, 16, 32), 64, 64)
    neck = BiFPN((8, 16, 32), 8).train()
    for _ in range(100):
        trained = neck(maps)
    for level, in_training in zip(neck.eval()(maps), trained, strict=True):
        assert_close(level, in_training, rtol=0, atol=0.1)


@pytest.mark.parametrize("rounded_up", [True, False])
def test_a_layer_is_the_papers_figure(rounded_up, pyramid_maps) -> None:
    """Written out for P3 to P7 (Figure 3 and the equations of P6 in the paper)."""
    p3, p4, p5, p6, p7 = pyramid_maps((8,) * 5, 41, 50, rounded_up=rounded_up)
    bottom_up = pyramid_maps((8,) * 5, 41, 50, rounded_up=rounded_up, seed=1)
    layer = BiFPNLayer(8, 5).eval()
    for node in (*layer.down, *layer.up):
        nn.init.uniform_(node.weights)

    def up(m: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        return F.interpolate(m, size=reference.shape[-2:])

    def down(m: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(m, 3, 2, 1)[..., : reference.shape[-2], : reference.shape[-1]]

    d3, d4, d5, d6 = layer.down
    t6 = d6(p6, up(p7, p6))
    t5 = d5(p5, up(t6, p5))
    t4 = d4(p4, up(t5, p4))
    n3 = d3(p3, up(t4, p3))
    u4, u5, u6, u7 = layer.up
    n4 = u4(bottom_up[1], t4, down(n3, p4))
    n5 = u5(bottom_up[2], t5, down(n4, p5))
    n6 = u6(bottom_up[3], t6, down(n5, p6))
    n7 = u7(bottom_up[4], down(n6, p7))
    assert_close(layer([p3, p4, p5, p6, p7], bottom_up), [n3, n4, n5, n6, n7])


def test_each_path_of_the_first_layer_has_its_own_projection(pyramid_maps) -> None:
    neck = BiFPN((4, 6, 10), 8, LastLevelP6P7(8, 8), repeats=1).eval()
    c = pyramid_maps((4, 6, 10), 40, 48)
    c4, c5 = neck.lateral[1](c[1]), neck.top(c[2])
    p6, p7 = neck.coarser(c[2])
    layer = neck.top_down.layers[0]
    expected = layer(
        [neck.lateral[0](c[0]), c4[:, :8], c5[:, :8], p6, p7],
        [neck.lateral[0](c[0]), c4[:, 8:], c5[:, 8:], p6, p7],
    )
    assert_close(neck(c), expected)


@pytest.mark.parametrize(("extra", "names"), [(LastLevelMaxPool(), ["pool"]), (LastLevelP6P7(8, 8), ["p6", "p7"])])
def test_extra_levels_are_made_from_c5_and_reach_the_finest_level(extra, names, pyramid_maps) -> None:
    channels = (4, 6, 10)
    neck = BiFPN(channels, 8, extra, repeats=1)
    maps = dict(zip("123", pyramid_maps(channels, 64, 96), strict=True))
    out = neck(maps)
    assert list(out) == [*"123", *names]
    (gradient,) = torch.autograd.grad(out["1"].square().sum(), neck.coarser.steps[0][0][0].weight)
    assert gradient.any()
    assert size(neck.coarser) == 10 * 8 + 8 + 2 * 8


def test_without_extra_levels_it_fuses_those_of_the_backbone(pyramid_maps) -> None:
    maps = pyramid_maps((4, 6, 10), 21, 34)
    assert [m.shape[-2:] for m in BiFPN((4, 6, 10), 8)(maps)] == [m.shape[-2:] for m in maps]


class Own(ExtraFPNBlock):
    pass


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(UsageError, match="number of BiFPN layers, must be at least 1, not 0"):
        BiFPN((4, 6), 8, repeats=0)
    with pytest.raises(UsageError, match="Own adds are not known"):
        BiFPN((4, 6), 8, Own())
