"""What holds for every pyramid."""

import textwrap
from collections import OrderedDict
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from drfpn import DRFPN, FPN, PAFPN
from drfpn.necks import (
    AFPN,
    CARAFE,
    SEPC,
    AugFPN,
    BiFPN,
    DySample,
    ExtraConvs,
    FaPN,
    FreqFusion,
    LibraFPN,
    PANet,
    PConvFPN,
    RefinedFPN,
    ScaledFPN,
    StepNeck,
)
from drfpn.utils.errors import UserError

C = (4, 6, 8, 10)
WIDTH = 8
PYRAMIDS = {
    "fpn": FPN,
    "pafpn": PAFPN,
    "drfpn": DRFPN,
    "drfpn, release": partial(DRFPN, convention="release"),
    "drfpn, paper": partial(DRFPN, convention="paper"),
    "drfpn, no context": partial(DRFPN, context=None),
    "carafe": CARAFE,
    "carafe, mmdet": partial(CARAFE, layout="mmdet"),
    "dysample": DySample,
    "dysample+": partial(DySample, dynamic_scope=True),
    "fapn": FaPN,
    "freqfusion": FreqFusion,
    "bifpn": BiFPN,
    "afpn": AFPN,
    "libra": LibraFPN,
    "panet": PANet,
    "pconv": PConvFPN,
    "sepc": partial(SEPC, layers=1),
    "augfpn": AugFPN,
    "fpn, scaled": ScaledFPN,
    "pafpn, residual": partial(PAFPN, residual=True),
    "fapn, no offsets": partial(FaPN, offsets=False),
    "refined": RefinedFPN,
}
every_pyramid = pytest.mark.parametrize("make", PYRAMIDS.values(), ids=PYRAMIDS.keys())
every_traced = pytest.mark.parametrize(
    ("name", "channels"),  # two levels will do for the others: a step of a hundred operations takes long to trace
    [(name, C) for name in ("fpn", "pafpn", "drfpn", "drfpn, release", "drfpn, paper", "drfpn, no context")]
    + [(name, C[2:]) for name in ("carafe", "dysample", "fapn", "freqfusion", "bifpn", "afpn")]
    + [(name, C[2:]) for name in ("libra", "panet", "pconv", "sepc", "augfpn", "fapn, no offsets", "refined")],
)


def awake(pyramid: nn.Module) -> nn.Module:
    """Give values to what begins at zero, such as offset and weight of SRB, so that it does something."""
    for name, parameter in pyramid.named_parameters():
        if "offset" in name or "weight.2" in name:
            nn.init.normal_(parameter, std=0.3)
        elif parameter.ndim > 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.05)
    return pyramid


@every_pyramid
@pytest.mark.parametrize("rounded_up", [True, False])
@pytest.mark.parametrize("size", [(32, 48), (75, 53), (8, 8), (9, 100)])
def test_any_sizes_that_halve_keep_names_and_sizes(make, size, rounded_up, pyramid_maps) -> None:
    check_names_and_sizes(awake(make(C, WIDTH)), pyramid_maps(C, *size, rounded_up=rounded_up))


@every_pyramid
@pytest.mark.parametrize("size", [(1, 1), (5, 1), (3, 7)])
def test_maps_that_end_in_one_pixel_keep_names_and_sizes(make, size, pyramid_maps) -> None:
    check_names_and_sizes(awake(make(C, WIDTH)), pyramid_maps(C, *size))


def check_names_and_sizes(pyramid: nn.Module, levels: list[torch.Tensor]) -> None:
    maps = dict(zip("cabd", levels, strict=True))
    out = pyramid(maps)
    assert {name: m.shape for name, m in out.items()} == {name: (2, WIDTH, *m.shape[-2:]) for name, m in maps.items()}
    assert list(out) == list("cabd")
    sum(m.sum() for m in out.values()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in pyramid.parameters())


@every_pyramid
def test_the_same_kind_of_collection_comes_out(make, pyramid_maps) -> None:
    maps = pyramid_maps(C)
    pyramid = make(C, WIDTH).eval()
    as_list, as_tuple = pyramid(maps), pyramid(tuple(maps))
    as_mapping = pyramid(OrderedDict(zip(("z", "x", "pool2", "0"), maps, strict=True)))
    assert isinstance(as_list, list)
    assert isinstance(as_tuple, tuple)
    assert list(as_mapping) == ["z", "x", "pool2", "0"]
    for a, b, c in zip(as_list, as_tuple, as_mapping.values(), strict=True):
        assert_close(a, b)
        assert_close(a, c)


@every_pyramid
def test_what_is_given_stays_as_it_was(make, pyramid_maps) -> None:
    maps = pyramid_maps(C)
    make(C, WIDTH, LastLevelMaxPool())(maps)
    assert_close(maps, pyramid_maps(C), rtol=0, atol=0)


@every_pyramid
def test_extra_levels_are_named_as_torchvision_does(make, pyramid_maps) -> None:
    maps = dict(zip("0123", pyramid_maps(C), strict=True))
    pyramid = make(C, WIDTH, LastLevelMaxPool())
    pooled = pyramid(maps)
    assert list(pooled) == ["0", "1", "2", "3", "pool"]
    convolved = make(C, WIDTH, LastLevelP6P7(C[-1], WIDTH))(maps)
    assert list(convolved) == ["0", "1", "2", "3", "p6", "p7"]
    for levels in (pooled, convolved):
        assert all(m.shape == (2, WIDTH, -(-32 >> i), -(-48 >> i)) for i, m in enumerate(levels.values()))
    for kind in (list, tuple):
        levels = make(C, WIDTH, LastLevelMaxPool())(kind(maps.values()))
        assert isinstance(levels, kind)
        assert len(levels) == 5


JOINED = ("carafe, mmdet", "bifpn", "libra", "pconv", "sepc")
"""Pyramids whose extra levels take part in what joins the others."""


@pytest.mark.parametrize("name", [name for name in PYRAMIDS if name not in JOINED])
def test_extra_levels_are_made_of_what_leaves(name, pyramid_maps) -> None:
    pooled = PYRAMIDS[name](C, WIDTH, LastLevelMaxPool())(dict(zip("0123", pyramid_maps(C), strict=True)))
    assert_close(pooled["pool"], F.max_pool2d(pooled["3"], 1, stride=2))


@every_pyramid
def test_every_parameter_gets_a_gradient_after_one_step(make, pyramid_maps) -> None:
    """The first step wakes what starts at zero."""
    pyramid = make(C, WIDTH)
    optimizer = torch.optim.SGD(pyramid.parameters(), lr=0.01)
    for seed in range(2):
        optimizer.zero_grad()
        sum(m.square().mean() for m in pyramid(pyramid_maps(C, seed=seed))).backward()
        optimizer.step()
    assert [name for name, p in pyramid.named_parameters() if p.grad is None or not p.grad.any()] == []


@every_pyramid
@pytest.mark.parametrize("size", [(32, 48), (8, 8)], ids=["usual", "one pixel on top"])
def test_a_batch_of_one_trains(make, size, pyramid_maps) -> None:
    pyramid = make(C, WIDTH).train()
    optimizer = torch.optim.SGD(pyramid.parameters(), lr=0.01)
    maps = pyramid_maps(C, *size, batch=1)
    losses = []
    for _ in range(4):
        loss = sum(m.square().mean() for m in pyramid(maps))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[1:]) < losses[0], losses
    assert all(tensor.isfinite().all() for tensor in pyramid.state_dict().values())


@every_pyramid
def test_float32_is_float64_rounded(make, pyramid_maps) -> None:
    pyramid = awake(make(C, WIDTH)).eval()
    maps = pyramid_maps(C, dtype=torch.float64)
    single = pyramid([m.float() for m in maps])
    for a, b in zip(single, pyramid.double()(maps), strict=True):
        assert_close(a.double(), b, rtol=1e-4, atol=1e-4)


@every_pyramid
def test_bfloat16_autocast_runs_both_ways(make, pyramid_maps) -> None:
    pyramid = awake(make(C, WIDTH)).eval()  # BatchNorm behind BatchNorm makes small differences large in training
    exact = pyramid(pyramid_maps(C))
    with torch.autocast("cpu", torch.bfloat16):
        out = pyramid(pyramid_maps(C))
        trained = pyramid.train()(pyramid_maps(C))
    for low, high in zip(out, exact, strict=True):
        assert (low.float() - high).std() < 0.05 * high.std()
    sum(m.float().sum() for m in trained).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in pyramid.parameters())


@pytest.mark.slow
@every_traced
def test_it_compiles_without_a_graph_break(name, channels, pyramid_maps) -> None:
    torch.compiler.reset()
    pyramid = awake(PYRAMIDS[name](channels, WIDTH)).eval()
    maps = pyramid_maps(channels, 9, 14)
    compiled = torch.compile(pyramid, fullgraph=True, backend="eager")(maps)
    for a, b in zip(compiled, pyramid(maps), strict=True):
        assert_close(a, b)


@pytest.mark.slow
@pytest.mark.parametrize("convention", ["bounded", "paper", "release"])
def test_it_compiles_for_training(convention, pyramid_maps) -> None:
    torch.compiler.reset()
    pyramid = awake(DRFPN(C, WIDTH, convention=convention)).train()
    gradients = []
    for function in (torch.compile(pyramid, fullgraph=True, backend="eager"), pyramid):
        pyramid.zero_grad()
        sum(m.square().mean() for m in function(pyramid_maps(C))).backward()
        gradients.append({name: p.grad.clone() for name, p in pyramid.named_parameters()})
    assert_close(*gradients)


class Backbone(nn.Module):
    """Strided convolutions, as real backbones have them, with a pyramid on top."""

    def __init__(self, pyramid: nn.Module, channels: tuple[int, ...]) -> None:
        super().__init__()
        pairs = zip((3, *channels), channels, strict=False)
        self.stages = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairs)
        self.pyramid = pyramid

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        maps = {}
        for i, stage in enumerate(self.stages):
            x = stage(x)
            maps[str(i)] = x
        return self.pyramid(maps)


@pytest.mark.slow
@every_traced
def test_it_exports_with_any_height_and_width(name, channels) -> None:
    model = Backbone(awake(PYRAMIDS[name](channels, WIDTH, LastLevelMaxPool())), channels).eval()
    sizes = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    exported = torch.export.export(model, (torch.randn(1, 3, 120, 184),), dynamic_shapes=(sizes,)).module()
    for size in [(120, 184), (64, 64), (133, 207), (34, 97)]:
        image = torch.randn(1, 3, *size)
        expected = model(image)
        for name, m in exported(image).items():
            assert_close(m, expected[name])


WRONG = {
    "too few": (lambda c: c[:3], "built for 4 levels but got 3"),
    "too many": (lambda c: [*c, c[3]], "built for 4 levels but got 5"),
    "order": (lambda c: c[::-1], r"Level '0' must be \(N, 4, H, W\) but is \(2, 10, 4, 6\)"),
    "channels": (lambda c: [c[0], c[1][:, :5], *c[2:]], r"Level '1' must be \(N, 6, H, W\) but is \(2, 5,"),
    "no batch": (lambda c: [c[0][0], *c[1:]], r"Level '0' must be \(N, 4, H, W\)"),
    "stride": (lambda c: [c[0], F.interpolate(c[1], scale_factor=2), *c[2:]], "Level '1' is 32x48 but must be half"),
    "coarser still": (lambda c: [*c[:3], F.avg_pool2d(c[3], 2)], "Level '3' is 2x3 but must be half of level '2'"),
}


@every_pyramid
@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_maps_are_named_in_one_sentence(make, wrong, pyramid_maps) -> None:
    change, said = WRONG[wrong]
    with pytest.raises(UserError, match=said) as caught:
        make(C, WIDTH)(change(pyramid_maps(C)))
    one_sentence = str(caught.value)
    assert "\n" not in one_sentence
    assert one_sentence.endswith(".")
    assert ". " not in one_sentence


@every_pyramid
def test_maps_in_the_wrong_order_are_named(make, pyramid_maps) -> None:
    same = (4, 4, 4, 4)
    maps = dict(zip("3210", reversed(pyramid_maps(same)), strict=True))
    with pytest.raises(UserError, match=r"Level '2' is 8x12 but must be half of level '3' \(4x6\).*finest first"):
        make(same, WIDTH)(maps)


def test_fpn_is_torchvisions_with_the_same_weights(pyramid_maps) -> None:
    theirs = FeaturePyramidNetwork(list(C), WIDTH, LastLevelMaxPool())
    ours = FPN(C, WIDTH, LastLevelMaxPool())
    convs = [*theirs.inner_blocks, *theirs.layer_blocks]
    for mine, other in zip([*ours.lateral, ours.top, *ours.smooth], convs, strict=True):
        mine.load_state_dict(other[0].state_dict())
    maps = OrderedDict(zip("0123", pyramid_maps(C, 37, 50), strict=True))
    expected = theirs(maps)
    actual = ours(maps)
    assert list(actual) == list(expected)
    for name, m in actual.items():
        assert_close(m, expected[name])


def test_the_pyramid_of_ones_own_in_the_docstring_works(pyramid_maps) -> None:
    example = StepNeck.__doc__.split("::\n")[1].split("    Args:")[0]
    names = {"nn": nn, "F": F, "StepNeck": StepNeck}
    exec(textwrap.dedent(example), names)
    own = names["MyPyramid"](C, WIDTH)
    maps = pyramid_maps(C, 21, 34)
    p = own.top(maps[3])
    expected = [own.smooth[3](p)]
    for i in (2, 1, 0):
        p = own.lateral[i](maps[i]) + F.interpolate(p, size=maps[i].shape[-2:], mode="bilinear")
        expected.insert(0, own.smooth[i](p))
    assert_close(own(maps), expected)


def test_extra_convs_read_what_they_are_told() -> None:
    c5, n5 = torch.randn(1, 6, 8, 8), torch.randn(1, 4, 8, 8)
    on_input, on_output = ExtraConvs(6, 4), ExtraConvs(4, 4, "output", relu=True)
    (_, p6, p7), names = on_input([n5], [c5], ["n5"])
    assert names == ["n5", "p6", "p7"]
    assert_close(p6, on_input.p6(c5))
    assert_close(p7, on_input.p7(p6))
    (_, p6, p7), _ = on_output([n5], [c5], ["n5"])
    assert_close(p6, on_output.p6(n5))
    assert_close(p7, on_output.p7(p6.relu()))


@pytest.mark.parametrize("channels", [(4,), (), (4, 0)])
def test_too_few_or_empty_levels_cannot_be_built(channels) -> None:
    with pytest.raises(UserError, match="at least two positive numbers"):
        FPN(channels)
