"""SimpleFPN: parameters, level sizes, and detectors on a ViT."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from drfpn import build_detector, list_models
from drfpn.detectors import parse_name
from drfpn.necks import SimpleFPN
from drfpn.utils.errors import UsageError
from tests.detectors.scenes import SMALL, loss_history

C = [16] * 4


def test_parameters_are_vitdets() -> None:
    with torch.device("meta"):
        neck = SimpleFPN([768] * 4)
    assert sum(p.numel() for p in neck.parameters()) == 5_560_000


@pytest.mark.parametrize("grid", [(6, 8), (5, 3), (1, 1)])
def test_levels_have_strides_4_to_32_of_a_map_of_stride_16(grid) -> None:
    h, w = grid
    maps = dict.fromkeys("0123", torch.randn(2, 16, h, w))
    out = SimpleFPN(C, 8, LastLevelMaxPool())(maps)
    half = (-(-h // 2), -(-w // 2))
    sizes = [(4 * h, 4 * w), (2 * h, 2 * w), (h, w), half, tuple(-(-side // 2) for side in half)]
    assert [tuple(m.shape) for m in out.values()] == [(2, 8, *size) for size in sizes]
    assert list(out) == ["0", "1", "2", "3", "pool"]


def test_three_maps_give_the_coarser_three_levels() -> None:
    m = torch.randn(1, 16, 4, 6)
    four, three = SimpleFPN(C, 8), SimpleFPN(C[1:], 8)
    state = {name: value for name, value in four.state_dict().items() if not name.startswith(("lateral.0", "smooth.0"))}
    renamed = {
        name.replace("lateral.1", "lateral.0").replace("lateral.2", "lateral.1"): value
        for name, value in state.items()
        if not name.startswith("smooth")
    } | {
        name.replace(f"smooth.{i}", f"smooth.{i - 1}"): state[name]
        for name in state
        for i in (1, 2, 3)
        if name.startswith(f"smooth.{i}")
    }
    three.load_state_dict(renamed)
    assert_close(three((m,) * 3), four((m,) * 4)[1:])


def test_the_finest_level_equals_the_layers_of_the_paper() -> None:
    """Deconvolution, LayerNorm, GELU, deconvolution, 1x1, LayerNorm, 3x3, LayerNorm."""
    neck = SimpleFPN(C, 8)
    m = torch.randn(1, 16, 3, 2)

    def layer_norm(x):
        return F.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2], eps=1e-6).permute(0, 3, 1, 2)

    (first, _, _, second), one, _ = neck.lateral[0]
    x = F.conv_transpose2d(m, first.weight, first.bias, stride=2)
    x = F.conv_transpose2d(F.gelu(layer_norm(x)), second.weight, second.bias, stride=2)
    x = layer_norm(F.conv2d(x, one.weight))
    x = layer_norm(F.conv2d(x, neck.smooth[0][0].weight, padding=1))
    assert_close(neck([m] * 4)[0], x)


@pytest.mark.parametrize("channels", [[256, 512, 1024, 2048], [16, 16], [16] * 5])
def test_channels_of_a_hierarchical_backbone_are_refused(channels) -> None:
    with pytest.raises(UsageError, match="plain backbone, all of the same width"):
        SimpleFPN(channels)


def test_maps_of_different_sizes_are_refused(pyramid_maps) -> None:
    with pytest.raises(UsageError, match="Level 'b' is 8x8 but must be as large as level 'a'"):
        SimpleFPN([4, 4, 4], 8)(dict(zip("abc", pyramid_maps((4, 4, 4), 16, 16), strict=True)))


def test_it_is_listed_with_plain_backbones_only() -> None:
    bodies = {neck: set() for neck in ("fpn", "simple_fpn")}
    for name in list_models():
        _, body, neck = parse_name(name)
        bodies.get(neck, set()).add(body)
    assert bodies["simple_fpn"] == {"vit_s", "vit_b"}
    assert not bodies["fpn"] & bodies["simple_fpn"]


def test_messages_name_necks_that_fit_the_backbone() -> None:
    with pytest.raises(UsageError, match=r"'r50' is no plain ViT .* use fpn or drfpn"):
        build_detector("faster_rcnn_r50_simple_fpn")
    with pytest.raises(UsageError, match="plain backbone: use the neck simple_fpn"):
        build_detector("faster_rcnn_vit_s_fpn")


@pytest.mark.parametrize(
    ("name", "strides"),
    [
        ("faster_rcnn", {"0": 4, "1": 8, "2": 16, "3": 32, "pool": 64}),
        ("retinanet", {"1": 8, "2": 16, "3": 32, "p6": 64, "p7": 128}),
    ],
)
def test_detectors_have_their_strides(name, strides) -> None:
    model = build_detector(f"{name}_vit_tiny_patch16_224_simple_fpn", 3, **SMALL[name]).eval()
    with torch.no_grad():
        levels = model.backbone(torch.rand(1, 3, 128, 256))
        model([torch.rand(3, 90, 70)])
    assert {key: 128 / m.shape[-2] for key, m in levels.items()} == strides


@pytest.mark.slow
@pytest.mark.parametrize("name", ["faster_rcnn", "retinanet"])
def test_it_overfits_two_images(name) -> None:
    options = {"anchor_scale": 2} if name == "retinanet" else {"anchor_scale": 4}
    model = build_detector(
        f"{name}_vit_tiny_patch16_224_simple_fpn", 3, frozen_stages=-1, **SMALL[name], **options
    ).train()
    history = loss_history(model, steps=8)
    assert min(history) < 0.8 * history[0], history
