"""DRFPN's default convention: it starts as an FPN, and neither omega nor a gate depends on the scale of the maps."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from drfpn import DRFPN, FPN, PAFPN
from drfpn.necks import Neck, ScaledFPN
from drfpn.necks.drfpn.conventions import CONVENTIONS, DEFAULT_CONVENTION
from drfpn.necks.drfpn.crb import BoundedGate, ChannelRefinement
from drfpn.necks.drfpn.neck import BOTTOM_UP, TOP_DOWN
from drfpn.necks.drfpn.srb import SpatialRefinementBlock

LITE0 = (24, 40, 112, 320)
LAYOUTS = [torch.contiguous_format, torch.channels_last]
AS_FPN = {
    "drfpn": DRFPN,
    "drfpn, no context": partial(DRFPN, context=None),
    "drfpn, non-local": partial(DRFPN, context="non_local"),
    "srb and crb up": partial(DRFPN, bottom_up="srb"),
    "crb down": partial(DRFPN, top_down="crb"),
    "crb and srb down": partial(DRFPN, top_down="crb_srb", bottom_up=None),
    "gir": partial(DRFPN, top_down="srb_weight"),
    "paths and ppm": partial(DRFPN, top_down="nearest", bottom_up="stride"),
    "crb from both": partial(DRFPN, bottom_up="crb_from_both"),
    "pafpn": partial(PAFPN, residual=True),
    "fpn_scale": ScaledFPN,
}
"""All combinations of parts that start as an FPN."""


def with_weights_of(fpn: FPN, pyramid: Neck) -> Neck:
    """Load an FPN's laterals and 3x3 convolutions into a neck."""
    own = pyramid.state_dict()
    names = {name: name if name in own else name.replace("top.", "top.reduce.") for name in fpn.state_dict()}
    _, unexpected = pyramid.load_state_dict({names[k]: v for k, v in fpn.state_dict().items()}, strict=False)
    assert not unexpected
    return pyramid


def randomize(module: nn.Module, std: float = 0.3) -> nn.Module:
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=std)
    return module


def test_it_is_the_default() -> None:
    assert DEFAULT_CONVENTION == "bounded"
    block = DRFPN((4, 6), 4).bottom_up.steps[0]
    assert isinstance(block.refinement.gate, BoundedGate)


@pytest.mark.parametrize("make", AS_FPN.values(), ids=AS_FPN.keys())
@pytest.mark.parametrize("layout", LAYOUTS, ids=["nchw", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_it_starts_as_an_fpn_with_the_same_convolutions_bit_for_bit(make, layout, dtype, pyramid_maps) -> None:
    """Also for sizes that were rounded when they were halved, and at the scale of an EfficientNet's maps."""
    fpn = FPN(LITE0, 32)
    pyramid = with_weights_of(fpn, make(LITE0, 32)).to(dtype).to(memory_format=layout)
    fpn = fpn.to(dtype).to(memory_format=layout)
    for hw, rounded_up in (((48, 64), True), ((37, 51), True), ((37, 51), False)):
        maps = pyramid_maps(LITE0, *hw, dtype=dtype, scale=7.0, rounded_up=rounded_up)
        maps = [m.to(memory_format=layout) for m in maps]
        for mode in (True, False):
            for ours, theirs in zip(pyramid.train(mode)(maps), fpn.train(mode)(maps), strict=True):
                assert torch.equal(ours, theirs)
    with torch.no_grad():
        for ours, theirs in zip(pyramid(maps), fpn(maps), strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("make", AS_FPN.values(), ids=AS_FPN.keys())
def test_every_parameter_has_a_gradient_by_the_second_step(make, pyramid_maps) -> None:
    pyramid = make((4, 6, 8, 10), 8).train()
    optimizer = torch.optim.SGD(pyramid.parameters(), lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        sum(m.square().mean() for m in pyramid(pyramid_maps((4, 6, 8, 10)))).backward()
        optimizer.step()
    for name, parameter in pyramid.named_parameters():
        assert parameter.grad.any(), name


@pytest.mark.parametrize("scales", [(1e-3, 1e-3), (1e3, 1e3), (100.0, 0.01)])
def test_neither_map_s_scale_changes_omega_offsets_or_gates(scales, pyramid_maps) -> None:
    by = CONVENTIONS["bounded"]
    fine, coarse = pyramid_maps((8, 8), dtype=torch.float64)
    srb, crb = randomize(by.srb(8)).double(), randomize(by.refinement(8)).double()
    scaled = fine * scales[0], coarse * scales[1]
    assert_close(srb.predict_offset_and_weight(*scaled), srb.predict_offset_and_weight(fine, coarse))
    assert_close(crb.predict_gates(*scaled), crb.predict_gates(fine, coarse))


@pytest.mark.parametrize("step", [*TOP_DOWN, *BOTTOM_UP])
def test_omega_and_gates_stay_within_their_bounds_whatever_the_weights(step, pyramid_maps) -> None:
    by = CONVENTIONS["bounded"]
    maps = pyramid_maps((8, 8), scale=100.0)
    for block in randomize((TOP_DOWN | BOTTOM_UP)[step](by, 8), std=30.0).modules():
        if isinstance(block, SpatialRefinementBlock):
            down = (
                block.predict_offset_and_weight(*maps)
                if type(block) is SpatialRefinementBlock
                else block.predict_offset_and_weight(*maps[::-1])
            )
            assert down[1].abs().max() <= 1
        if isinstance(block, ChannelRefinement):
            gates = block.predict_gates(*maps)
            assert gates.min() >= 0
            assert gates.max() <= 2


def test_maps_of_zeros_give_no_nan() -> None:
    """A padded image may be all zeros behind a ReLU."""
    pyramid = randomize(DRFPN((4, 6, 8), 8))
    maps = [torch.zeros(1, c, 16 >> i, 16 >> i, requires_grad=True) for i, c in enumerate((4, 6, 8))]
    levels = pyramid(maps)
    assert all(m.isfinite().all() for m in levels)
    sum(m.sum() for m in levels).backward()
    assert all(m.grad.isfinite().all() for m in maps)


@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
def test_an_image_s_levels_do_not_depend_on_the_others_of_its_batch(mode, pyramid_maps) -> None:
    pyramid = randomize(DRFPN((4, 6, 8), 8), std=0.1).double().train(mode)
    maps = pyramid_maps((4, 6, 8), batch=3, dtype=torch.float64)
    maps = [m * torch.tensor([1.0, 10.0, 0.1])[:, None, None, None] for m in maps]
    for both, alone in zip(pyramid(maps), pyramid([m[1:2] for m in maps]), strict=True):
        assert_close(both[1:2], alone)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_of_large_maps_is_finite(kind, pyramid_maps) -> None:
    """A sum of squares leaves float16 at 65504."""
    pyramid = randomize(DRFPN((4, 6, 8), 8), std=0.1)
    maps = pyramid_maps((4, 6, 8), scale=100.0)
    with torch.autocast("cpu", kind):
        levels = pyramid([m.to(kind) for m in maps])
    assert all(m.isfinite().all() for m in levels)
    exact = pyramid(maps)
    for half, full in zip(levels, exact, strict=True):
        assert (half.float() - full).norm() < 0.05 * full.norm()


def test_weights_of_another_convention_are_refused() -> None:
    """Their parameters are as many, and would mean something else."""
    paper = DRFPN((4, 6, 8), 8, convention="paper").state_dict()
    with pytest.raises(RuntimeError, match="Missing key"):
        DRFPN((4, 6, 8), 8).load_state_dict(paper)
    assert sum(t.numel() for t in paper.values()) == sum(t.numel() for t in DRFPN((4, 6, 8), 8).state_dict().values())


def train_on_random_maps(pyramid: nn.Module, maps: list[Tensor], steps: int = 50) -> list[float]:
    """Train a pyramid and a head on two images to say which pixels are positive, at the paper's rate."""
    torch.manual_seed(1)
    head = nn.Conv2d(256, 1, 1)
    nn.init.normal_(head.weight, std=0.01)
    targets = [(torch.rand(len(m), 1, *m.shape[2:]) > 0.9).float() for m in maps]
    parameters = [*pyramid.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.02, momentum=0.9, weight_decay=1e-4)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        logits = [head(m) for m in pyramid(maps)]
        terms = zip(logits, targets, strict=True)
        loss = sum(nn.functional.binary_cross_entropy_with_logits(x, t) for x, t in terms)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 10.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.slow
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_fifty_steps_at_the_papers_width_leave_nothing_saturated_at_any_scale(scale, pyramid_maps) -> None:
    """A ResNet-18's channels. FPN, trained on the same maps, is what its loss is held against."""
    channels = (64, 128, 256, 512)
    maps = pyramid_maps(channels, 16, 24, scale=scale)
    torch.manual_seed(0)
    drfpn = DRFPN(channels, 256)
    torch.manual_seed(0)
    fpn = with_weights_of(FPN(channels, 256), drfpn) and FPN(channels, 256)
    theirs, ours = train_on_random_maps(fpn, maps), train_on_random_maps(drfpn, maps)
    assert ours[-1] < 1.2 * max(theirs[-1], 0.1 * theirs[0])
    with torch.no_grad():
        laterals = [*(conv(m) for conv, m in zip(drfpn.lateral, maps, strict=False)), drfpn.top(maps[-1])]
        for i, step in enumerate(drfpn.top_down.steps):
            offset, omega = step.predict_offset_and_weight(laterals[i], laterals[i + 1])
            assert omega.abs().mean() < 0.9
            assert offset.abs().max() < 100
        for i, step in enumerate(drfpn.bottom_up.steps):
            gates = step.refinement.predict_gates(laterals[i], laterals[i + 1])
            assert (gates - 1).abs().mean() < 0.9
