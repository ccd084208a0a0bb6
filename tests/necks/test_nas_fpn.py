"""NAS-FPN's own: parameters, gates, connections, and the levels that it makes."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close
from torchvision.models.detection import fasterrcnn_resnet50_fpn
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from drfpn import build_detector, replace_neck
from drfpn.necks import NASFPN
from drfpn.necks.nas_fpn import GATES, NASFPNStage
from drfpn.utils.errors import UserError
from tests.detectors.scenes import SMALL, loss_history

C = (6, 8, 10)
WIDTH = 8


def test_parameters_are_mmdetections() -> None:
    """29,990,144; a stage has 7 (256 x 256 x 9 + 256 + 512)."""
    with torch.device("meta"):
        seven, six = (NASFPN([512, 1024, 2048], stages=n) for n in (7, 6))
    counts = [sum(p.numel() for p in pyramid.parameters()) for pyramid in (seven, six)]
    assert counts[0] == 29_990_144
    assert counts[0] - counts[1] == 7 * (256 * 256 * 9 + 256 + 512)


def test_gates_by_hand() -> None:
    fine = torch.tensor([[[[0.0, 4]], [[-2, 0]]]])  # averages 2 and -1
    coarse = torch.tensor([[[[1.0, 3]], [[0, -1]]]])  # maxima 3 and 0
    average = torch.tensor([2.0, -1]).sigmoid().view(1, 2, 1, 1)
    maximum = torch.tensor([3.0, 0]).sigmoid().view(1, 2, 1, 1)
    assert_close(GATES["mmdetection"](fine, coarse), fine + average * coarse)
    assert_close(GATES["google"](fine, coarse), coarse + maximum * fine)


@pytest.mark.parametrize("gate", GATES)
def test_a_stage_joins_the_levels_that_the_search_found(gate) -> None:
    """Cells replaced by the identity, so that levels of constants can be followed by hand."""
    stage = NASFPNStage(1, GATES[gate])
    for name in stage.cells:
        stage.cells[name] = nn.Identity()
    a, b, c, d, e = (torch.tensor(float(value)) for value in (0.1, -0.2, 0.3, 0.4, -0.5))
    levels = [torch.full((1, 1, 16 >> i, 16 >> i), float(value)) for i, value in enumerate((a, b, c, d, e))]

    def gated(coarse: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
        base, other = (fine, coarse) if gate == "mmdetection" else (coarse, fine)
        return base + base.sigmoid() * other

    p4 = gated(d, b) + b
    n3 = p4 + a
    n4 = n3 + p4
    n5 = c + gated(n4, n3)
    n7 = e + gated(n5, p4)
    n6 = gated(n7, n5)
    for m, value in zip(stage(levels), (n3, n4, n5, n6, n7), strict=True):
        assert_close(m, value.expand_as(m))


@pytest.mark.parametrize("rounded_up", [True, False])
@pytest.mark.parametrize("size", [(32, 48), (75, 53), (4, 4), (9, 100)])
def test_any_sizes_that_halve_give_five_levels(size, rounded_up, pyramid_maps) -> None:
    maps = pyramid_maps(C, *size, rounded_up=rounded_up)
    out = NASFPN(C, WIDTH, LastLevelP6P7(C[-1], WIDTH))(dict(zip("123", maps, strict=True)))
    assert list(out) == ["1", "2", "3", "p6", "p7"]
    sizes = [tuple(m.shape[-2:]) for m in maps]
    for _ in range(2):
        sizes.append(tuple(-(-side // 2) for side in sizes[-1]))
    assert [tuple(m.shape) for m in out.values()] == [(2, WIDTH, *each) for each in sizes]
    assert all(m.isfinite().all() for m in out.values())


def test_pixels_go_where_they_belong_at_odd_sizes() -> None:
    """Upsampling is nearest and pooling takes windows from the corner, whatever the levels were rounded to."""
    stage = NASFPNStage(1, GATES["mmdetection"])
    for name in stage.cells:
        stage.cells[name] = nn.Identity()
    levels = [torch.rand(1, 1, side, side) for side in (13, 7, 4, 2, 1)]
    p3, p4, _, p6, _ = levels
    up6 = F.interpolate(p6, size=(7, 7), mode="nearest")
    p4b = p4 + p4.mean().sigmoid() * up6 + p4
    n3 = F.interpolate(p4b, size=(13, 13), mode="nearest") + p3
    padded = F.pad(n3, (0, 1, 0, 1), value=-torch.inf)
    out = stage(levels)
    assert_close(out[0], n3)
    assert_close(out[1], F.max_pool2d(padded, 2) + p4b)


@pytest.mark.parametrize("gate", GATES)
def test_every_parameter_gets_a_gradient_and_a_batch_of_one_trains(gate, pyramid_maps) -> None:
    pyramid = NASFPN(C, WIDTH, stages=2, gate=gate).train()
    sum(m.square().mean() for m in pyramid(pyramid_maps(C, 16, 16, batch=1))).backward()
    # P7 is one pixel of one image: its BatchNorm takes running statistics, and all before it learns
    assert [name for name, p in pyramid.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    pyramid.zero_grad()
    sum(m.square().mean() for m in pyramid(pyramid_maps(C, 32, 48))).backward()
    assert [name for name, p in pyramid.named_parameters() if not p.grad.any() and "conv.bias" not in name] == []


def test_bfloat16_autocast_runs_both_ways(pyramid_maps) -> None:
    pyramid = NASFPN(C, WIDTH, stages=2).eval()
    exact = pyramid(pyramid_maps(C))
    with torch.autocast("cpu", torch.bfloat16):
        out = pyramid(pyramid_maps(C))
    for low, high in zip(out, exact, strict=True):
        assert (low.float() - high).std() < 0.05 * high.std()
    sum(m.float().sum() for m in out).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in pyramid.parameters())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (((6, 8), WIDTH), "C3 to C5 or of C2 to C5"),
        ((C, WIDTH, None, {"gate": "gogle"}), "Did you mean 'google'"),
        ((C, WIDTH, None, {"stages": 0}), "at least 1"),
    ],
)
def test_what_it_cannot_be_made_of_is_said(arguments, said) -> None:
    *positional, options = arguments if isinstance(arguments[-1], dict) else (*arguments, {})
    with pytest.raises(UserError, match=said):
        NASFPN(*positional, **options)


@pytest.mark.parametrize(("name", "sides"), [("faster_rcnn", [32, 64, 128, 256, 512]), ("retinanet", [32] * 5)])
def test_detectors_give_it_c3_to_c5_and_see_strides_8_to_128(name, sides) -> None:
    model = build_detector(f"{name}_lite0_nas_fpn", 3, **SMALL[name], neck_options={"stages": 1}).eval()
    with torch.no_grad():
        levels = model.backbone(torch.rand(1, 3, 128, 256))
    assert {key: 128 / m.shape[-2] for key, m in levels.items()} == {"1": 8, "2": 16, "3": 32, "p6": 64, "p7": 128}
    generator = getattr(model, "rpn", model).anchor_generator
    if name == "faster_rcnn":
        assert [size for (size,) in generator.sizes] == sides
        assert model.roi_heads.box_roi_pool.featmap_names == ["1", "2", "3"]
        assert model.roi_heads.box_roi_pool.scales == [1 / 8, 1 / 16, 1 / 32]
    else:
        assert [sizes[0] // 2**i for i, sizes in enumerate(generator.sizes)] == sides


def test_in_a_detector_of_torchvision_it_takes_the_levels_that_are_there() -> None:
    model = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, min_size=64, max_size=96).eval()
    replace_neck(model, "nas_fpn", stages=1)
    with torch.no_grad():
        assert list(model.backbone(torch.rand(1, 3, 64, 64))) == ["0", "1", "2", "3", "pool"]
        model([torch.rand(3, 64, 80)])
    assert isinstance(replace_neck(model, "fpn").backbone.fpn.extra_blocks, LastLevelMaxPool)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["faster_rcnn", "retinanet"])
def test_it_learns_two_images_by_heart(name) -> None:
    options = {"anchor_scale": 2} if name == "retinanet" else {"anchor_scale": 4}
    options |= {"frozen_stages": -1, "norm_eval": False, "neck_options": {"stages": 1}}
    history = loss_history(build_detector(f"{name}_lite0_nas_fpn", 3, **SMALL[name], **options).train(), steps=8)
    assert min(history) < 0.8 * history[0], history
