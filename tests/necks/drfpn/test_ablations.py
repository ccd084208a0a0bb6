"""Steps and guides of the paper's ablations, DCN, DenseASPP and the fused layers of SRB."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import gradcheck
from torch.testing import assert_close
from torchvision.ops import deform_conv2d

from drfpn import DRFPN, FPN, PAFPN
from drfpn.necks import DeformableFPN
from drfpn.necks.drfpn import guides
from drfpn.necks.drfpn.ablations import (
    CRBTopDown,
    GlobalInformationRefinement,
    SamplingPointOffset,
    SRBBottomUp,
)
from drfpn.necks.drfpn.crb import ChannelRefinement, ChannelRefinementBlock
from drfpn.necks.drfpn.srb import SpatialRefinementBlock
from drfpn.necks.layers.dcn import OFFSET_UNIT, DeformableConv
from drfpn.necks.layers.dense_aspp import DenseASPP
from drfpn.necks.layers.fusion import NearestAdd
from drfpn.ops import warp_released

SIZES = [(12, 16), (9, 14)]
"""The second halves to 5 x 7, rounded up."""


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def randomize(module: nn.Module, std: float = 0.3) -> nn.Module:
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=std)
    return module


@pytest.mark.parametrize(("neck", "bottom_up"), [(FPN, None), (PAFPN, "stride")])
def test_fpn_and_pafpn_are_choices_of_parts(neck, bottom_up, pyramid_maps) -> None:
    channels = (4, 6, 8)
    composed = DRFPN(channels, 8, context=None, convention="paper", top_down="nearest", bottom_up=bottom_up)
    named = neck(channels, 8)
    named.load_state_dict(composed.state_dict())
    maps = pyramid_maps(channels)
    assert_close(named(maps), composed(maps), rtol=0, atol=0)


@pytest.mark.parametrize("hw", SIZES)
def test_spo_starts_as_bilinear_upsampling_in_place_of_nearest(hw, pyramid_maps) -> None:
    fine, coarse = pyramid_maps((4, 4), *hw)
    expected = fine + F.interpolate(coarse, size=hw, mode="bilinear")
    assert_close(SamplingPointOffset(4)(fine, coarse), expected)


@pytest.mark.parametrize("hw", SIZES)
def test_gir_weights_the_bilinearly_upsampled_map(hw, pyramid_maps) -> None:
    fine, coarse = pyramid_maps((4, 4), *hw)
    block = GlobalInformationRefinement(4)
    assert_close(block(fine, coarse), NearestAdd()(fine, coarse))
    nn.init.constant_(block.weight[2].bias, 0.5)
    expected = NearestAdd()(fine, coarse) + 0.5 * F.interpolate(coarse, size=hw, mode="bilinear")
    assert_close(block(fine, coarse), expected)


def test_srb_is_gir_where_nothing_moves_and_keeps_what_spo_samples(pyramid_maps) -> None:
    """SRB = f + omega * sample + up: GIR has delta = 0, SPO has omega = 1 and no up."""
    fine, coarse = pyramid_maps((4, 4))
    srb = randomize(SpatialRefinementBlock(4))
    gir, spo = GlobalInformationRefinement(4), SamplingPointOffset(4)
    state = srb.state_dict()
    gir.load_state_dict({k: v for k, v in state.items() if not k.startswith("offset")})
    spo.load_state_dict({k: v for k, v in state.items() if not k.startswith("weight")})
    _, weight = srb.predict_offset_and_weight(fine, coarse)
    sampled = spo(fine, coarse) - fine
    assert_close(srb(fine, coarse), fine + weight * sampled + F.interpolate(coarse, scale_factor=2))
    nn.init.zeros_(srb.offset.weight)
    assert_close(srb(fine, coarse), gir(fine, coarse))


@pytest.mark.parametrize("hw", SIZES)
@pytest.mark.parametrize("rounded_up", [True, False])
def test_srb_on_the_way_up_samples_the_finer_map_at_the_coarser_ones_pixels(hw, rounded_up, pyramid_maps) -> None:
    fine, coarse = pyramid_maps((4, 4), *hw, rounded_up=rounded_up)
    block = SRBBottomUp(4)
    h, w = coarse.shape[-2:]
    down = block.down(fine)[..., :h, :w]
    assert_close(block(fine, coarse), coarse + down)
    nn.init.constant_(block.weight[2].bias, 0.5)
    sampled = F.interpolate(fine, size=(h, w), mode="bilinear")
    assert_close(block(fine, coarse), coarse + 0.5 * sampled + down)


def test_crb_on_the_way_down_gates_the_coarser_map_before_it_is_fused(pyramid_maps) -> None:
    fine, coarse = pyramid_maps((4, 4))
    refinement = ChannelRefinement.paper(4)
    refined = refinement.gate(fine.mean((2, 3), keepdim=True)) * refinement.refine(coarse)
    assert_close(CRBTopDown(refinement, NearestAdd())(fine, coarse), NearestAdd()(fine, refined))
    srb = randomize(SpatialRefinementBlock(4))
    assert_close(CRBTopDown(refinement, srb)(fine, coarse), srb(fine, refined))


@pytest.mark.parametrize(
    ("guide", "reads"),
    [
        (guides.TargetProjection, (True, False)),
        (guides.CoarseProjection, (False, True)),
        (guides.SumGuide, (True, True)),
        (guides.ConcatGuide, (True, True)),
    ],
)
def test_a_guide_of_srb_reads_the_maps_that_it_names(guide, reads, pyramid_maps) -> None:
    fine, coarse = (m.requires_grad_() for m in pyramid_maps((8, 8), 9, 14))
    features = guide(8)(fine, coarse)
    assert features.shape == (2, guide(8).channels, 9, 14)
    gradients = torch.autograd.grad(features.sum(), (fine, coarse), allow_unused=True)
    assert tuple(g is not None and bool(g.any()) for g in gradients) == reads


@pytest.mark.parametrize(
    ("guide", "reads"),
    [
        (guides.FineAverage, (True, False)),
        (guides.CoarseAverage, (False, True)),
        (guides.SumAverage, (True, True)),
        (guides.ConcatAverage, (True, True)),
    ],
)
def test_a_guide_of_crb_reads_the_maps_that_it_names(guide, reads, pyramid_maps) -> None:
    fine, coarse = (m.requires_grad_() for m in pyramid_maps((8, 8), 9, 14))
    gradients = torch.autograd.grad(guide(8)(fine, coarse).sum(), (fine, coarse), allow_unused=True)
    assert tuple(g is not None and bool(g.any()) for g in gradients) == reads
    assert randomize(ChannelRefinementBlock.paper(8, guide))(fine, coarse).shape == coarse.shape


def test_reducing_averages_is_averaging_what_was_reduced(pyramid_maps) -> None:
    """The paper's order: downsample, concatenate, reduce, average."""
    fine, coarse = pyramid_maps((8, 8))
    guide = randomize(guides.ConcatAverage(8))
    reduced = guide.reduce(torch.cat([guide.down(fine), coarse], dim=1))
    assert_close(guide(fine, coarse), F.adaptive_avg_pool2d(reduced, 1))


def test_fpn_with_dcn_starts_as_fpn_and_samples_at_its_offsets(pyramid_maps) -> None:
    channels = (4, 6, 8)
    deformable, plain = DeformableFPN(channels, 8), FPN(channels, 8)
    state = {name.replace(".conv.", "."): v for name, v in deformable.state_dict().items() if ".offset." not in name}
    plain.load_state_dict(state)
    maps = pyramid_maps(channels)
    assert_close(deformable(maps), plain(maps))

    conv = DeformableConv(8)
    (m,) = pyramid_maps((8,))
    conv.offset.bias.data.copy_(torch.tensor([0.0, 1 / OFFSET_UNIT] * 9))  # every point one pixel to the right
    right = F.pad(m, (0, 1))[..., 1:]
    assert_close(conv(m)[..., 1:-1], conv.conv(right, torch.zeros_like(conv.offset(m)))[..., 1:-1])
    offset = OFFSET_UNIT * conv.offset(m)
    assert_close(conv(m), deform_conv2d(m, offset, conv.conv.weight, conv.conv.bias, padding=1))


def test_a_nan_offset_gives_nan_in_a_deformable_convolution(pyramid_maps) -> None:
    (m,) = pyramid_maps((4,))
    m[0, 0, 5, 5] = torch.nan
    conv = randomize(DeformableConv(4))
    out = conv(m)
    assert out[0, :, 5, 5].isnan().all()
    assert out[1].isfinite().all()
    out.nansum().backward()


def test_a_branch_of_dense_aspp_reads_all_before_it_as_far_as_its_dilation() -> None:
    aspp = randomize(DenseASPP(10, 4))
    c5 = torch.randn(1, 10, 49, 49, requires_grad=True)
    for last, dilation in ((0, 3), (4, 24)):
        maps = [c5]
        for branch in list(aspp.branches)[: last + 1]:
            maps.append(branch(torch.cat(maps, dim=1)))
        assert maps[-1].shape == (1, 4, 49, 49)
        (gradient,) = torch.autograd.grad(maps[-1][0, :, 24, 24].sum(), c5)
        receptive = gradient[0].abs().sum(0).nonzero()
        assert receptive.max() - 24 >= dilation
    assert_close(aspp(c5).shape, torch.Size((1, 4, 49, 49)))


@pytest.mark.parametrize(
    "make",
    [
        SamplingPointOffset,
        GlobalInformationRefinement,
        SRBBottomUp,
        lambda n: SRBBottomUp(n, warp_released),
        lambda n: CRBTopDown(ChannelRefinement.paper(n), SpatialRefinementBlock(n)),
        lambda n: SpatialRefinementBlock(n, guide=guides.SumGuide),
        lambda n: ChannelRefinementBlock.paper(n, guides.ConcatAverage),
        lambda n: GlobalInformationRefinement(n, norm=guides.rms_norm, bound=nn.Tanh()),
        lambda n: SRBBottomUp(n, norm=guides.rms_norm, bound=nn.Tanh()),
    ],
    ids=[
        *("spo", "gir", "bu srb", "bu srb, release", "td crb + srb", "srb from sum", "crb from both"),
        *("gir, bounded", "bu srb, bounded"),
    ],
)
def test_variants_pass_gradcheck(make, pyramid_maps) -> None:
    block = randomize(make(4).double())
    maps = [m.requires_grad_() for m in pyramid_maps((4, 4), 7, 6, batch=1, dtype=torch.float64)]
    assert gradcheck(block, maps, fast_mode=True)


def test_an_srb_or_a_crb_has_the_same_size_in_either_path() -> None:
    w = 256
    conv = 9 * w * w + w
    assert size(SRBBottomUp(w)) - conv == size(SpatialRefinementBlock(w)) == 251_649
    assert size(ChannelRefinementBlock.paper(w)) - conv == size(ChannelRefinement.paper(w)) == w * w + w + conv


def test_the_parts_of_srb_add_up_to_it() -> None:
    w = 256
    guide = size(guides.ConcatGuide(w))
    assert size(SamplingPointOffset(w)) == guide + 9 * w * 2
    assert size(GlobalInformationRefinement(w)) == guide + w * w // 2 + 9 * w // 2 + 1
    assert size(SamplingPointOffset(w)) + size(GlobalInformationRefinement(w)) - guide == 251_649


@pytest.mark.parametrize(
    "guide",
    [guides.ConcatGuide, guides.SumGuide, guides.TargetProjection, guides.CoarseProjection],
    ids=lambda g: g.__name__,
)
@pytest.mark.parametrize("norm", [guides.no_norm, guides.rms_norm], ids=lambda n: n.__name__)
@pytest.mark.parametrize("height", [7, 8, 9], ids=["2h-1", "2h", "2h+1"])
def test_offset_and_weight_of_fused_layers_are_those_of_the_layers_called_one_by_one(guide, norm, height) -> None:
    block = randomize(SpatialRefinementBlock(6, guide=partial(guide, norm=norm), bound=nn.Tanh())).double()
    fine = torch.randn(2, 6, height, 10, dtype=torch.float64, requires_grad=True)
    coarse = torch.randn(2, 6, 4, 5, dtype=torch.float64, requires_grad=True)
    features = block.guide(fine, coarse)
    one_by_one = block.offset(features), block.weight(features)
    fused = block.predict_offset_and_weight(fine, coarse)
    assert_close(fused, one_by_one)
    with torch.inference_mode():
        assert_close(block.predict_offset_and_weight(fine, coarse), one_by_one)
    inputs = [fine, coarse, *block.parameters()]
    grads = [
        torch.autograd.grad(sum(m.square().sum() for m in outputs), inputs, materialize_grads=True)
        for outputs in (fused, one_by_one)
    ]
    assert_close(*grads)


def test_the_size_may_be_an_odd_one_in_one_direction_alone() -> None:
    guide = randomize(guides.CoarseProjection(4))
    source = torch.randn(1, 4, 3, 5)
    whole = guide(torch.empty(1, 4, 7, 11), source)
    for height in (5, 6, 7):
        for width in (9, 10, 11):
            assert_close(guide(torch.empty(1, 4, height, width), source), whole[..., :height, :width])
