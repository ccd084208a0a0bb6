"""What holds for looking into a pyramid."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from drfpn.detectors import build_detector
from drfpn.utils.errors import UserError
from drfpn.visualization.diagnostics import judge_gates, judge_offsets, judge_weights
from drfpn.visualization.feature_maps import draw_features_after, draw_gates, draw_offsets, most_active, pick
from drfpn.visualization.hooks import inspect_pyramid

IMAGE = torch.rand(3, 75, 101, generator=torch.Generator().manual_seed(1))


def build(name: str, **neck_options) -> nn.Module:
    return build_detector(name, 3, width=16, neck_options=neck_options, min_size=96, max_size=160).eval()


def wake(model: nn.Module) -> nn.Module:
    """Give offset, weight and gate of every block values."""
    for name, parameter in model.backbone.neck.named_parameters():
        if any(part in name for part in ("offset", "weight.2", "gate")):
            nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.parametrize(("detector", "first"), [("faster_rcnn", "C2"), ("retinanet", "C3")])
def test_laterals_are_the_convolutions_of_the_backbones_maps_without_padding(detector, first) -> None:
    model = build(f"{detector}_lite0_fpn")
    found = inspect_pyramid(model, IMAGE)
    images, _ = model.transform([IMAGE])
    with torch.no_grad():
        c = next(iter(model.backbone.body(images.tensors).values()))
        expected = model.backbone.neck.lateral[0](c)[0]
    height, width = found.laterals[0].shape[-2:]
    assert_close(found.laterals[0], expected[:, :height, :width])
    stride = images.tensors.shape[-1] // c.shape[-1]
    assert (height, width) == tuple(-(-side // stride) for side in images.image_sizes[0])
    assert found.offsets == found.weights == found.gates == {}
    assert found.levels[0] == first
    assert [m.shape for m in found.merged] == [m.shape for m in found.laterals]


@pytest.mark.parametrize("neck", ["carafe", "dysample", "fapn", "freqfusion", "bifpn", "afpn"])
def test_other_papers_pyramids_show_their_features_and_have_no_blocks_of_drfpn(neck) -> None:
    found = inspect_pyramid(build(f"faster_rcnn_lite0_{neck}"), IMAGE)
    assert found.offsets == found.weights == found.gates == {}
    assert found.levels == ["C2", "C3", "C4", "C5"]
    assert [m.shape[-2:] for m in found.merged] == [m.shape[-2:] for m in found.laterals]
    assert {len(m) for m in found.merged} == {16}


def test_a_fresh_drfpn_is_dead_but_for_its_gates_and_one_with_set_weights_works() -> None:
    model = build("faster_rcnn_lite0_drfpn")
    found = inspect_pyramid(model, IMAGE)
    for verdicts in (judge_offsets(found), judge_weights(found)):
        assert [verdict.pair for verdict in verdicts] == ["C2-C3", "C3-C4", "C4-C5"]
        assert not any(verdict.works for verdict in verdicts)
        assert all(verdict.words.startswith("dead") for verdict in verdicts)
    found = inspect_pyramid(wake(model), IMAGE)
    for verdicts in (judge_offsets(found), judge_weights(found), judge_gates([found])):
        assert all(verdict.works for verdict in verdicts)


def test_gates_that_are_all_alike_are_dead() -> None:
    model = build("faster_rcnn_lite0_drfpn", convention="paper")
    for step in model.backbone.neck.bottom_up.steps:
        nn.init.zeros_(step.refinement.gate.weight)
        nn.init.constant_(step.refinement.gate.bias, 0.7)
    verdicts = judge_gates([inspect_pyramid(model, IMAGE)])
    assert [verdict.words for verdict in verdicts] == ["dead: all gates are 0.70"] * 3


@pytest.mark.parametrize("convention", ["bounded", "paper", "release"])
def test_a_constant_offset_is_shown_in_pixels_of_the_finer_map(convention) -> None:
    model = build("faster_rcnn_lite0_drfpn", convention=convention)
    step = model.backbone.neck.top_down.steps[0]
    step.offset.register_forward_hook(lambda _m, _i, out: torch.full_like(out, 4.0))
    images, _ = model.transform([IMAGE])
    height, width = images.tensors.shape[-2:]
    x, y = inspect_pyramid(model, IMAGE).offsets[0]
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
def test_parts_are_found_in_either_path_and_what_is_not_there_is_left_out(options, has, tmp_path) -> None:
    found = inspect_pyramid(wake(build("faster_rcnn_lite0_drfpn", **options)), IMAGE)
    assert (len(found.offsets), len(found.weights), len(found.gates)) == has
    if found.offsets or found.weights:
        draw_offsets(found, (IMAGE * 255).byte(), tmp_path / "offsets.png")
        assert (tmp_path / "offsets.png").stat().st_size > 5000
    if found.gates:
        draw_gates([found, found], tmp_path / "gates.png")
        assert (tmp_path / "gates.png").stat().st_size > 5000


def test_a_model_is_left_in_the_mode_that_it_was_in() -> None:
    model = build("faster_rcnn_lite0_drfpn").train()
    model.backbone.body.eval()
    before = [module.training for module in model.modules()]
    inspect_pyramid(model, IMAGE)
    assert [module.training for module in model.modules()] == before
    assert not model.backbone.neck.lateral[0]._forward_hooks


def test_the_most_active_channels_vary_most_and_the_mean_is_over_all() -> None:
    found = inspect_pyramid(build("faster_rcnn_lite0_fpn"), IMAGE)
    first, second = most_active(found, 0, 2)
    varies = found.merged[0].std(dim=(1, 2))
    assert varies[first] == varies.max()
    assert varies[first] >= varies[second] >= varies.median()
    assert_close(pick(found.merged[0], None), found.merged[0].mean(0))
    assert_close(pick(found.merged[0], second), found.merged[0][second])


def test_panels_that_are_compared_share_their_scale(tmp_path, monkeypatch) -> None:
    from matplotlib.axes import Axes

    scales = []
    original = Axes.imshow

    def spy(self, *args, **kwargs):
        scales.append((kwargs["vmin"], kwargs["vmax"]))
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Axes, "imshow", spy)
    runs = {name: inspect_pyramid(build(f"faster_rcnn_lite0_{name}"), IMAGE) for name in ("fpn", "drfpn")}
    draw_features_after(runs, 0, [1, None], {}, tmp_path / "after.png")
    assert scales[0] == scales[1] != scales[2] == scales[3]
    both = torch.stack([run.merged[0][1] for run in runs.values()])
    assert scales[0] == pytest.approx((float(both.min()), float(both.max())))


def test_a_model_without_a_pyramid_is_told_in_one_sentence() -> None:
    with pytest.raises(UserError, match="must have a pyramid"):
        inspect_pyramid(nn.Linear(1, 1), IMAGE)
