"""DRFPN: number of parameters, initialization, and the outputs of the authors' network."""

import json
import re
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import nn
from torch.autograd import gradcheck
from torch.testing import assert_close

from drfpn import DRFPN, FPN, PAFPN, load_release
from drfpn.necks import ChannelRefinementBlock, PyramidPoolingModule, SpatialRefinementBlock
from drfpn.necks.drfpn import guides
from drfpn.necks.drfpn.convert_release import RELEASE_NAMES, rename
from drfpn.necks.layers.fusion import NearestAdd
from drfpn.ops import warp_released
from drfpn.utils.errors import UserError

R50 = (256, 512, 1024, 2048)
CONVENTIONS = ("bounded", "paper", "release")


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_parameters_of_table_7() -> None:
    assert size(FPN(R50)) == 3_344_384
    assert size(DRFPN(R50, convention="release", context=None)) - size(FPN(R50)) == 6_264_579
    assert size(DRFPN(R50, convention="release")) - size(FPN(R50)) == 6_854_659


def test_parameters_of_the_one_stage_detectors() -> None:
    assert size(DRFPN(R50[1:], convention="release")) - size(FPN(R50[1:])) == 4_766_466


def test_parameters_of_the_paper_convention_follow_from_its_layers() -> None:
    w = 256
    srb = 2 * (w * w // 2) + (9 * (w // 2) ** 2 + w // 2) + 9 * w * 2 + w * (w // 2) + (9 * (w // 2) + 1)
    crb = (w * w + w) + (9 * w * w + w)  # gate 1x1 and conv5 3x3, with biases
    steps = 2 * (9 * w * w + w)  # strided and output convolution
    ppm = (2048 * w + w) + 4 * w * w + (5 * w * w + w)
    assert size(SpatialRefinementBlock(w)) == srb == 251_649
    assert size(PyramidPoolingModule(2048, w)) == ppm == 1_114_624
    assert size(ChannelRefinementBlock.release(w)) - 9 * w * w - w == 656_384
    assert size(DRFPN(R50, convention="paper")) == size(FPN(R50)) + 3 * (srb + crb + steps) + ppm - (2048 * w + w)


def test_pafpn_adds_two_convolutions_a_pair() -> None:
    assert size(PAFPN(R50)) - size(FPN(R50)) == 3 * 2 * 590_080


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_golden_numbers_of_the_authors_network(assets, mode) -> None:
    """The golden values reach 11 and differ by 2e-5 from float64, so the tolerance is relative to the largest."""
    with safe_open(assets / f"golden/two_stage_{mode}.safetensors", "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        widths = json.loads(file.metadata()["in_channels"])
    weights = {name.removeprefix("release."): t for name, t in tensors.items() if name.startswith("release.")}
    maps = [tensors[f"input.{i}"] for i in range(4)]
    limit = {"eval": 1e-5, "train": 1e-4}[mode]
    for dtype in (torch.float32, torch.float64):
        pyramid = load_release(weights).train(mode == "train").to(dtype)
        assert pyramid.in_channels == widths
        out = pyramid([m.to(dtype) for m in maps])
        assert len(out) == 5
        for i, level in enumerate(out):
            golden = tensors[f"output.{i}"].to(dtype)
            assert (level - golden).abs().max() <= limit * golden.abs().max(), f"level {i}"


def released(neck: DRFPN, extra: dict[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
    """Return the weights of a DRFPN under the release's names: the inverse of load_release."""
    names = {ours: theirs for theirs, ours in RELEASE_NAMES.items()}
    return {rename(name, names): value for name, value in neck.state_dict().items()} | (extra or {})


def test_a_three_level_network_with_extra_convs_is_loaded(pyramid_maps) -> None:
    original = DRFPN((6, 8, 10), 4, convention="release").eval()
    conv6, conv7 = torch.randn(4, 10, 3, 3), torch.randn(4, 4, 3, 3)
    extra = {"fpn_convs.3.conv.weight": conv6, "fpn_convs.3.conv.bias": torch.ones(4)}
    extra |= {"fpn_convs.4.conv.weight": conv7, "fpn_convs.4.conv.bias": torch.zeros(4)}
    maps = pyramid_maps((6, 8, 10))
    state = {f"neck.{name}": value for name, value in released(original, extra).items()}
    out = load_release(state, add_extra_convs="on_input", relu_before_extra_convs=True).eval()(maps)
    for a, b in zip(out[:3], original(maps), strict=True):
        assert_close(a, b)
    p6 = F.conv2d(maps[-1], conv6, torch.ones(4), stride=2, padding=1)
    assert_close(out[3], p6)
    assert_close(out[4], F.conv2d(p6.relu(), conv7, stride=2, padding=1))

    extra["fpn_convs.3.conv.weight"] = torch.randn(4, 4, 3, 3)
    out = load_release(released(original, extra), add_extra_convs="on_output").eval()(maps)
    p6 = F.conv2d(out[2], extra["fpn_convs.3.conv.weight"], torch.ones(4), stride=2, padding=1)
    assert_close(out[3], p6)
    assert_close(out[4], F.conv2d(p6, conv7, stride=2, padding=1))


def test_a_network_without_extra_convs_has_its_coarsest_level_max_pooled(pyramid_maps) -> None:
    original = DRFPN((6, 8, 10), 4, convention="release").eval()
    maps = pyramid_maps((6, 8, 10))
    out = load_release(released(original)).eval()(maps)
    assert_close(out, [*original(maps), F.max_pool2d(original(maps)[-1], 1, stride=2)])


def test_the_neck_is_picked_out_of_a_whole_detectors_weights() -> None:
    original = DRFPN((4, 6), 4, convention="release")
    state = {f"neck.{name}": value for name, value in released(original).items()}
    loaded = load_release(state | {"backbone.conv1.weight": torch.zeros(1)}).state_dict()
    assert loaded.keys() == original.state_dict().keys()
    for name, value in original.state_dict().items():
        assert torch.equal(loaded[name], value), name


def test_weights_of_another_network_are_refused_by_name() -> None:
    state = released(DRFPN((4, 6), 4, convention="release"))
    with pytest.raises(UserError, match="not the weights of the authors' DRFPN"):
        load_release({"conv.weight": torch.zeros(1)})
    with pytest.raises(UserError, match="conv1' is not a name"):
        load_release(state | {"backbone.conv1": torch.zeros(1)})
    with pytest.raises(UserError, match="lack 'top_down"):
        load_release({name: t for name, t in state.items() if "offset_make" not in name})
    with pytest.raises(UserError, match=r"'smooth.0.weight' is \(1, 1, 3, 3\) but must be \(4, 4, 3, 3\)"):
        load_release(state | {"fpn_convs.0.conv.weight": torch.zeros(1, 1, 3, 3)})
    with pytest.raises(UserError, match=r"hold 'top_down\.steps\.7\.offset\.weight', which"):
        load_release(state | {"srb_list.7.offset_make.weight": torch.zeros(1)})
    with pytest.raises(UserError, match=r"lack 'extra_blocks.p[67]"):
        load_release(state, add_extra_convs="on_input")
    with pytest.raises(UserError, match="add_extra_convs='on_input'"):
        load_release(state | {"fpn_convs.2.conv.weight": torch.zeros(4, 4, 3, 3)})
    with pytest.raises(UserError, match="`add_extra_convs` must be"):
        load_release(state, add_extra_convs="on_lateral")


SCALES = [0.1, 1.0, 10.0]


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("context", ["ppm", None])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("relu", [False, True])
def test_each_level_starts_within_a_factor_of_two_of_fpns(convention, context, scale, relu, pyramid_maps) -> None:
    channels = (24, 40, 112, 320)
    maps = pyramid_maps(channels, 32, 48, scale=scale)
    maps = [m.relu() for m in maps] if relu else maps
    for seed in range(3):
        torch.manual_seed(seed)
        check_start(FPN(channels, 64), DRFPN(channels, 64, context=context, convention=convention), maps)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("scale", SCALES)
def test_at_the_papers_width_too_each_level_starts_within_a_factor_of_two(convention, scale, pyramid_maps) -> None:
    """A ResNet's maps are not negative: their averages, from which gates are predicted, grow with their scale."""
    maps = [m.relu() for m in pyramid_maps(R50, 32, 48, scale=scale)]
    check_start(FPN(R50), DRFPN(R50, convention=convention), maps)


def check_start(fpn: nn.Module, drfpn: nn.Module, maps: list[torch.Tensor]) -> None:
    with torch.no_grad():
        ours, theirs = (torch.stack([m.std() for m in pyramid.train()(maps)]) for pyramid in (drfpn, fpn))
    ratio = ours / theirs
    assert ratio.min() > 0.5, ratio
    assert ratio.max() < 2, ratio


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_the_top_down_path_starts_as_fpns(convention, pyramid_maps) -> None:
    laterals = pyramid_maps((8, 8, 8), 21, 30)
    expected = [*laterals]
    for i in (1, 0):
        expected[i] = NearestAdd()(laterals[i], expected[i + 1])
    assert_close(DRFPN((8, 8, 8), 8, convention=convention).top_down(laterals), expected)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_omega_and_the_gates_have_gradients_in_the_first_step_and_all_else_in_the_second(
    convention, pyramid_maps
) -> None:
    """In the first step delta and all layers below have no gradient, since omega is zero."""
    pyramid = DRFPN((4, 6, 8, 10), 8, convention=convention).train()
    without_gradient = {
        name
        for name, _ in pyramid.named_parameters()
        if re.search(r"top_down\.steps\.\d\.(guide|offset|weight\.0)", name)
        or (convention == "bounded" and "top.branches" in name)  # no gradient until PPM's merge is not zero
    }
    assert without_gradient
    optimizer = torch.optim.SGD(pyramid.parameters(), lr=0.01)
    for expected in (without_gradient, set()):
        optimizer.zero_grad()
        sum(m.square().mean() for m in pyramid(pyramid_maps((4, 6, 8, 10)))).backward()
        assert {name for name, p in pyramid.named_parameters() if not p.grad.any()} == expected
        optimizer.step()


def test_all_gates_start_open(pyramid_maps) -> None:
    maps = pyramid_maps((16, 16))
    for convention in CONVENTIONS:
        make = getattr(ChannelRefinementBlock, convention)
        gates = make(16).refinement.predict_gates(*maps)
        assert gates.shape == (2, 16, 1, 1)
        assert ((gates > 0.5) & (gates < 1.5)).all()


@pytest.mark.parametrize(
    "make",
    [
        SpatialRefinementBlock,
        partial(SpatialRefinementBlock, warp=warp_released),
        ChannelRefinementBlock.paper,
        lambda channels: ChannelRefinementBlock.release(channels).eval(),
        partial(SpatialRefinementBlock, guide=partial(guides.ConcatGuide, norm=guides.rms_norm), bound=nn.Tanh()),
        ChannelRefinementBlock.bounded,
    ],
    ids=["srb, paper", "srb, release", "crb, paper", "crb, release", "srb, bounded", "crb, bounded"],
)
def test_blocks_pass_gradcheck(make, pyramid_maps) -> None:
    block = make(4).double()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    maps = [m.requires_grad_() for m in pyramid_maps((4, 4), 7, 6, batch=1, dtype=torch.float64)]
    assert gradcheck(block, maps, fast_mode=True)


def test_srb_is_its_equation(pyramid_maps) -> None:
    """Eq. 4 without conv3, with a constant offset and weight: the result is known in closed form."""
    fine, coarse = pyramid_maps((4, 4), 12, 12)
    block = SpatialRefinementBlock(4)
    nn.init.constant_(block.weight[2].bias, 0.5)
    bilinear = F.interpolate(coarse, size=(12, 12), mode="bilinear")
    nearest = F.interpolate(coarse, size=(12, 12), mode="nearest")
    assert_close(block(fine, coarse), fine + 0.5 * bilinear + nearest)


def test_crb_is_its_equation(pyramid_maps) -> None:
    fine, coarse = pyramid_maps((4, 4), 9, 14)
    block = ChannelRefinementBlock.paper(4)
    refinement = block.refinement
    alpha = refinement.gate(F.adaptive_avg_pool2d(fine, 1))
    assert_close(block(fine, coarse), alpha * refinement.refine(coarse) + block.down(fine))


def test_ppm_is_psps_module(pyramid_maps) -> None:
    (c5,) = pyramid_maps((10,), 9, 7)
    ppm = PyramidPoolingModule(10, 4)
    reduced = ppm.reduce(c5)
    parts = [
        F.interpolate(conv(F.adaptive_avg_pool2d(reduced, n)), (9, 7))
        for n, conv in zip((1, 2, 3, 6), ppm.branches, strict=True)
    ]
    assert_close(ppm(c5), F.relu(ppm.merge(torch.cat([*parts, reduced], 1))))


def test_a_custom_context_module_replaces_the_top() -> None:
    own = nn.Conv2d(10, 4, 1)
    assert DRFPN((6, 8, 10), 4, context=own).top is own


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"convention": "relaese"}, "'paper' or 'release', not 'relaese'. Did you mean 'release'?"),
        (
            {"context": "pmp"},
            "`context` must be 'ppm', 'non_local', 'dense_aspp', None or a module, not 'pmp'. Did you mean 'ppm'?",
        ),
    ],
)
def test_unknown_choices_are_named(options, message) -> None:
    with pytest.raises(UserError) as caught:
        DRFPN((4, 6), 4, **options)
    assert message in str(caught.value)
