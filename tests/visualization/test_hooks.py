"""Intermediate tensors of a neck, their diagnoses and figures."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from drfpn.detectors import build_detector
from drfpn.utils.errors import UserError
from drfpn.visualization.diagnostics import diagnose_gates, diagnose_offsets, diagnose_omegas
from drfpn.visualization.feature_maps import (
    draw_features_after_fusion,
    draw_gates,
    draw_offsets,
    most_active_channels,
    select_channel,
)
from drfpn.visualization.hooks import capture_neck_tensors

IMAGE = torch.rand(3, 75, 101, generator=torch.Generator().manual_seed(1))


def build(name: str, **neck_options) -> nn.Module:
    return build_detector(name, 3, width=16, neck_options=neck_options, min_size=96, max_size=160).eval()


def randomize(model: nn.Module) -> nn.Module:
    """Initialize offset, omega and gate of every block randomly."""
    for name, parameter in model.backbone.neck.named_parameters():
        if any(part in name for part in ("offset", "weight.2", "gate")):
            nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.parametrize(("detector", "first"), [("faster_rcnn", "C2"), ("retinanet", "C3")])
def test_laterals_are_the_convolutions_of_the_backbones_maps_without_padding(detector, first) -> None:
    model = build(f"{detector}_lite0_fpn")
    tensors = capture_neck_tensors(model, IMAGE)
    images, _ = model.transform([IMAGE])
    with torch.no_grad():
        c = next(iter(model.backbone.body(images.tensors).values()))
        expected = model.backbone.neck.lateral[0](c)[0]
    height, width = tensors.laterals[0].shape[-2:]
    assert_close(tensors.laterals[0], expected[:, :height, :width])
    stride = images.tensors.shape[-1] // c.shape[-1]
    assert (height, width) == tuple(-(-side // stride) for side in images.image_sizes[0])
    assert tensors.offsets == tensors.omegas == tensors.gates == {}
    assert tensors.levels[0] == first
    assert [m.shape for m in tensors.outputs] == [m.shape for m in tensors.laterals]


@pytest.mark.parametrize("neck", ["carafe", "dysample", "fapn", "freqfusion", "bifpn", "afpn"])
def test_necks_of_other_papers_have_feature_maps_and_no_blocks_of_drfpn(neck) -> None:
    tensors = capture_neck_tensors(build(f"faster_rcnn_lite0_{neck}"), IMAGE)
    assert tensors.offsets == tensors.omegas == tensors.gates == {}
    assert tensors.levels == ["C2", "C3", "C4", "C5"]
    assert [m.shape[-2:] for m in tensors.outputs] == [m.shape[-2:] for m in tensors.laterals]
    assert {len(m) for m in tensors.outputs} == {16}


def test_a_fresh_drfpn_is_dead_but_for_its_gates_and_one_with_set_weights_works() -> None:
    model = build("faster_rcnn_lite0_drfpn")
    tensors = capture_neck_tensors(model, IMAGE)
    for diagnoses in (diagnose_offsets(tensors), diagnose_omegas(tensors)):
        assert [diagnosis.pair for diagnosis in diagnoses] == ["C2-C3", "C3-C4", "C4-C5"]
        assert not any(diagnosis.works for diagnosis in diagnoses)
        assert all(diagnosis.words.startswith("dead") for diagnosis in diagnoses)
    tensors = capture_neck_tensors(randomize(model), IMAGE)
    for diagnoses in (diagnose_offsets(tensors), diagnose_omegas(tensors), diagnose_gates([tensors])):
        assert all(diagnosis.works for diagnosis in diagnoses)


def test_gates_that_are_all_alike_are_dead() -> None:
    model = build("faster_rcnn_lite0_drfpn", convention="paper")
    for step in model.backbone.neck.bottom_up.steps:
        nn.init.zeros_(step.refinement.gate.weight)
        nn.init.constant_(step.refinement.gate.bias, 0.7)
    diagnoses = diagnose_gates([capture_neck_tensors(model, IMAGE)])
    assert [diagnosis.words for diagnosis in diagnoses] == ["dead: all gates are 0.70"] * 3


@pytest.mark.parametrize("convention", ["bounded", "paper", "release"])
def test_a_constant_offset_is_shown_in_pixels_of_the_finer_map(convention) -> None:
    model = build("faster_rcnn_lite0_drfpn", convention=convention)
    step = model.backbone.neck.top_down.steps[0]
    step.offset.register_forward_hook(lambda _m, _i, out: torch.full_like(out, 4.0))
    images, _ = model.transform([IMAGE])
    height, width = images.tensors.shape[-2:]
    x, y = capture_neck_tensors(model, IMAGE).offsets[0]
    paper = convention != "release"
    assert_close(x, torch.full_like(x, 4 * width / (height + width) if paper else 2.0))
    assert_close(y, torch.full_like(y, 4 * height / (height + width) if paper else 2.0))


@pytest.mark.parametrize(
    ("options", "has"),
    [
        ({"top_down": "srb_offset"}, (3, 0, 3)),
        ({"top_down": "srb_weight"}, (0, 3, 3)),
        ({"top_down": "crb_srb", "bottom_up": None}, (3, 3, 3)),
        ({"top_down": "crb", "bottom_up": "srb"}, (3, 3, 3)),
        ({"bottom_up": "stride"}, (3, 3, 0)),
    ],
)
def test_blocks_are_found_in_either_path(options, has, tmp_path) -> None:
    tensors = capture_neck_tensors(randomize(build("faster_rcnn_lite0_drfpn", **options)), IMAGE)
    assert (len(tensors.offsets), len(tensors.omegas), len(tensors.gates)) == has
    if tensors.offsets or tensors.omegas:
        draw_offsets(tensors, (IMAGE * 255).byte(), tmp_path / "offsets.png")
        assert (tmp_path / "offsets.png").stat().st_size > 5000
    if tensors.gates:
        draw_gates([tensors, tensors], tmp_path / "gates.png")
        assert (tmp_path / "gates.png").stat().st_size > 5000


def test_a_model_is_left_in_the_mode_that_it_was_in() -> None:
    model = build("faster_rcnn_lite0_drfpn").train()
    model.backbone.body.eval()
    before = [module.training for module in model.modules()]
    capture_neck_tensors(model, IMAGE)
    assert [module.training for module in model.modules()] == before
    assert not model.backbone.neck.lateral[0]._forward_hooks


def test_the_most_active_channels_vary_most_and_the_mean_is_over_all() -> None:
    tensors = capture_neck_tensors(build("faster_rcnn_lite0_fpn"), IMAGE)
    first, second = most_active_channels(tensors, 0, 2)
    deviation = tensors.outputs[0].std(dim=(1, 2))
    assert deviation[first] == deviation.max()
    assert deviation[first] >= deviation[second] >= deviation.median()
    assert_close(select_channel(tensors.outputs[0], None), tensors.outputs[0].mean(0))
    assert_close(select_channel(tensors.outputs[0], second), tensors.outputs[0][second])


def test_panels_that_are_compared_share_their_scale(tmp_path, monkeypatch) -> None:
    from matplotlib.axes import Axes

    scales = []
    original = Axes.imshow

    def spy(self, *args, **kwargs):
        scales.append((kwargs["vmin"], kwargs["vmax"]))
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Axes, "imshow", spy)
    runs = {name: capture_neck_tensors(build(f"faster_rcnn_lite0_{name}"), IMAGE) for name in ("fpn", "drfpn")}
    draw_features_after_fusion(runs, 0, [1, None], {}, tmp_path / "after.png")
    assert scales[0] == scales[1] != scales[2] == scales[3]
    both = torch.stack([run.outputs[0][1] for run in runs.values()])
    assert scales[0] == pytest.approx((float(both.min()), float(both.max())))


def test_a_model_without_a_neck_is_an_error() -> None:
    with pytest.raises(UserError, match="must have a neck"):
        capture_neck_tensors(nn.Linear(1, 1), IMAGE)
