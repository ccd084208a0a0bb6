"""Contract of all necks: every name of ``NECKS`` and some variants of them pass the same tests."""

import textwrap
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from drfpn import DRFPN, FPN
from drfpn.necks import NECKS, ExtraConvs, Neck, StepNeck
from drfpn.utils.errors import UsageError

C = (4, 6, 8, 10)


@dataclass(frozen=True)
class Case:
    """How the shared tests build a neck and what they expect of it; the defaults fit most necks.

    Args:
        name: key of ``NECKS``.
        options: keywords of the neck.
        width: ``out_channels``.
        own_levels: names of the extra levels that it makes whatever ``extra_blocks`` would add; ``None`` for none.
        fuses_extra_levels: whether extra levels take part in the fusion, so that they are not made from the outputs.
        traced_maps: number of maps for compiling and exporting, which take long; 0 leaves these tests out.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    width: int = 8
    own_levels: Sequence[str] | None = None
    fuses_extra_levels: bool = False
    traced_maps: int = 2

    @property
    def strides(self) -> tuple[int, ...]:
        return NECKS[self.name].backbone_strides

    @property
    def is_plain(self) -> bool:
        """Whether it makes its levels from maps of one size."""
        return len(set(self.strides)) == 1

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the backbone's maps, finest first."""
        return (16,) * len(self.strides) if self.is_plain else C[-len(self.strides) :]

    @property
    def traced_channels(self) -> tuple[int, ...]:
        return self.channels[-self.traced_maps :]

    def make(self, channels: Sequence[int] | None = None, *extra_blocks: nn.Module) -> Neck:
        return NECKS[self.name](channels or self.channels, self.width, *extra_blocks, **self.options)

    def maps(
        self,
        pyramid_maps: Callable[..., list[torch.Tensor]],
        *size: int,
        channels: Sequence[int] | None = None,
        **options: Any,
    ) -> list[torch.Tensor]:
        """Make the backbone's maps, the finest of ``size``."""
        channels = channels or self.channels
        if self.is_plain:
            return pyramid_maps(channels[:1], *size, **options) * len(channels)
        return pyramid_maps(channels, *size, **options)

    def level_sizes(self, maps: Sequence[torch.Tensor], extra: int = 0) -> list[tuple[int, int]]:
        """Return the height and width of every output level, ``extra`` levels behind the backbone's."""
        sizes = [tuple(m.shape[-2:]) for m in maps]
        if self.is_plain:
            h, w = sizes[0]
            sizes = [(4 * h, 4 * w), (2 * h, 2 * w), (h, w), (-(-h // 2), -(-w // 2))][-len(maps) :]
        for _ in range(extra):
            h, w = sizes[-1]
            sizes.append((-(-h // 2), -(-w // 2)))
        return sizes


PECULIARITIES = {
    "bifpn": {"fuses_extra_levels": True},
    "drfpn": {"traced_maps": 4},
    "fpn": {"traced_maps": 4},
    "fpt": {"width": 16},
    "libra": {"fuses_extra_levels": True},
    "nas_fpn": {"options": {"stages": 2}, "own_levels": ("p6", "p7"), "fuses_extra_levels": True, "traced_maps": 3},
    "pafpn": {"traced_maps": 4},
    "pconv": {"fuses_extra_levels": True},
    "sepc": {"options": {"layers": 1}, "fuses_extra_levels": True},
    "simple_fpn": {"traced_maps": 3},
}
"""Necks that differ from the defaults of :class:`Case`; a neck that does not is tested without an entry."""

VARIANTS = {
    "carafe, mmdet": {"options": {"layout": "mmdet"}, "fuses_extra_levels": True, "traced_maps": 0},
    "drfpn, no context": {"options": {"context": None}, "traced_maps": 4},
    "drfpn, paper": {"options": {"convention": "paper"}, "traced_maps": 4},
    "drfpn, release": {"options": {"convention": "release"}, "traced_maps": 4},
    "dysample, dynamic scope": {"options": {"dynamic_scope": True}, "traced_maps": 0},
    "fapn, no offsets": {"options": {"offsets": False}},
    "fpt, euclidean": {"options": {"similarity": "euclidean"}, "width": 16, "traced_maps": 0},
    "nas_fpn, google": PECULIARITIES["nas_fpn"] | {"options": {"stages": 2, "gate": "google"}, "traced_maps": 0},
    "pafpn, residual": {"options": {"residual": True}, "traced_maps": 0},
}
"""Options that are tested in addition; those that change nothing in a graph are not traced."""

CASES = {name: Case(name, **PECULIARITIES.get(name, {})) for name in NECKS} | {
    key: Case(key.partition(",")[0], **values) for key, values in VARIANTS.items()
}


def parametrize(keys: Sequence[str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", [CASES[key] for key in keys], ids=keys)


every_neck = parametrize(list(CASES))
every_traced = parametrize([key for key, case in CASES.items() if case.traced_maps])
every_with_strides = parametrize([key for key, case in CASES.items() if not case.is_plain])


def randomize_zeros(neck: nn.Module) -> nn.Module:
    """Give random values to parameters that are initialized with zero, such as SRB's offset, so that they matter."""
    for name, parameter in neck.named_parameters():
        if "offset" in name or "weight.2" in name:
            nn.init.normal_(parameter, std=0.3)
        elif not name.endswith("bias") and not parameter.any():
            nn.init.normal_(parameter, std=0.05)
    return neck


@every_neck
@pytest.mark.parametrize("rounded_up", [True, False])
@pytest.mark.parametrize("size", [(32, 48), (75, 53), (8, 8), (9, 100)])
def test_levels_have_the_names_and_sizes_of_the_maps(case, size, rounded_up, pyramid_maps) -> None:
    check_names_and_sizes(case, case.maps(pyramid_maps, *size, rounded_up=rounded_up))


@every_neck
@pytest.mark.parametrize("size", [(1, 1), (5, 1), (3, 7)])
def test_maps_of_one_pixel_keep_names_and_sizes(case, size, pyramid_maps) -> None:
    check_names_and_sizes(case, case.maps(pyramid_maps, *size))


def check_names_and_sizes(case: Case, levels: list[torch.Tensor]) -> None:
    neck = randomize_zeros(case.make())
    names = list("cabd")[: len(levels)]
    out = neck(dict(zip(names, levels, strict=True)))
    own_levels = case.own_levels or []
    assert list(out) == [*names, *own_levels]
    sizes = case.level_sizes(levels, len(own_levels))
    assert [tuple(m.shape) for m in out.values()] == [(2, case.width, *size) for size in sizes]
    sum(m.sum() for m in out.values()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in neck.parameters())


@every_neck
def test_output_is_the_type_of_collection_of_the_input(case, pyramid_maps) -> None:
    maps = case.maps(pyramid_maps)
    neck = case.make().eval()
    as_list, as_tuple = neck(maps), neck(tuple(maps))
    names = ["z", "x", "pool2", "0"][: len(maps)]
    as_mapping = neck(OrderedDict(zip(names, maps, strict=True)))
    assert isinstance(as_list, list)
    assert isinstance(as_tuple, tuple)
    assert list(as_mapping) == [*names, *(case.own_levels or [])]
    for a, b, c in zip(as_list, as_tuple, as_mapping.values(), strict=True):
        assert_close(a, b)
        assert_close(a, c)


@every_neck
def test_inputs_are_not_modified(case, pyramid_maps) -> None:
    maps = case.maps(pyramid_maps)
    case.make(None, LastLevelMaxPool())(maps)
    assert_close(maps, case.maps(pyramid_maps), rtol=0, atol=0)


@every_neck
def test_extra_levels_are_named_as_in_torchvision(case, pyramid_maps) -> None:
    levels = case.maps(pyramid_maps)
    maps = dict(zip("0123", levels, strict=False))
    p6_channels = case.width if case.is_plain else case.channels[-1]  # a plain backbone has no C5
    for extra_blocks, names in (
        (LastLevelMaxPool(), ["pool"]),
        (LastLevelP6P7(p6_channels, case.width), ["p6", "p7"]),
    ):
        names = case.own_levels or names
        neck = case.make(None, extra_blocks)
        out = neck(maps)
        assert list(out) == [*maps, *names]
        sizes = case.level_sizes(levels, len(names))
        assert [tuple(m.shape) for m in out.values()] == [(2, case.width, *size) for size in sizes]
        for collection in (list, tuple):
            out = neck(collection(levels))
            assert isinstance(out, collection)
            assert len(out) == len(levels) + len(names)


@parametrize([key for key, case in CASES.items() if not case.fuses_extra_levels])
def test_extra_levels_are_made_from_output_levels(case, pyramid_maps) -> None:
    maps = dict(zip("0123", case.maps(pyramid_maps), strict=False))
    out = case.make(None, LastLevelMaxPool())(maps)
    assert_close(out["pool"], F.max_pool2d(out[list(maps)[-1]], 1, stride=2))


@every_neck
def test_every_parameter_gets_a_gradient_after_one_step(case, pyramid_maps) -> None:
    """The first step moves what is initialized with zero."""
    neck = case.make()
    optimizer = torch.optim.SGD(neck.parameters(), lr=0.01)
    for seed in range(2):
        optimizer.zero_grad()
        sum(m.square().mean() for m in neck(case.maps(pyramid_maps, seed=seed))).backward()
        optimizer.step()
    assert [name for name, p in neck.named_parameters() if p.grad is None or not p.grad.any()] == []


@every_neck
@pytest.mark.parametrize("size", [(32, 48), (8, 8)], ids=["usual", "one pixel on top"])
def test_a_batch_of_one_trains(case, size, pyramid_maps) -> None:
    neck = case.make().train()
    optimizer = torch.optim.SGD(neck.parameters(), lr=0.01)
    maps = case.maps(pyramid_maps, *size, batch=1)
    losses = []
    for _ in range(4):
        loss = sum(m.square().mean() for m in neck(maps))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[1:]) < losses[0], losses
    assert all(tensor.isfinite().all() for tensor in neck.state_dict().values())


@every_neck
def test_float32_and_float64_agree(case, pyramid_maps) -> None:
    neck = randomize_zeros(case.make()).eval()
    maps = case.maps(pyramid_maps, dtype=torch.float64)
    single = neck([m.float() for m in maps])
    for a, b in zip(single, neck.double()(maps), strict=True):
        assert_close(a.double(), b.double(), rtol=1e-4, atol=1e-4)


@every_neck
def test_bfloat16_autocast_runs_forward_and_backward(case, pyramid_maps) -> None:
    neck = randomize_zeros(case.make()).eval()  # a stack of BatchNorms makes small differences large in training
    expected = neck(case.maps(pyramid_maps))
    with torch.autocast("cpu", torch.bfloat16):
        out = neck(case.maps(pyramid_maps))
        in_training = neck.train()(case.maps(pyramid_maps))
    for low, high in zip(out, expected, strict=True):
        assert (low.float() - high).std() < 0.05 * high.std()
    sum(m.float().sum() for m in in_training).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in neck.parameters())


@pytest.mark.slow
@every_traced
def test_it_compiles_without_a_graph_break(case, pyramid_maps) -> None:
    torch.compiler.reset()
    neck = randomize_zeros(case.make(case.traced_channels)).eval()
    maps = case.maps(pyramid_maps, 9, 14, channels=case.traced_channels)
    compiled = torch.compile(neck, fullgraph=True, backend="eager")(maps)
    for a, b in zip(compiled, neck(maps), strict=True):
        assert_close(a, b)


@pytest.mark.slow
@pytest.mark.parametrize("convention", ["bounded", "paper", "release"])
def test_it_compiles_for_training(convention, pyramid_maps) -> None:
    torch.compiler.reset()
    neck = randomize_zeros(DRFPN(C, 8, convention=convention)).train()
    gradients = []
    for function in (torch.compile(neck, fullgraph=True, backend="eager"), neck):
        neck.zero_grad()
        sum(m.square().mean() for m in function(pyramid_maps(C))).backward()
        gradients.append({name: p.grad.clone() for name, p in neck.named_parameters()})
    assert_close(*gradients)


class Backbone(nn.Module):
    """Strided convolutions, or for a plain backbone one of stride 4, with a neck."""

    def __init__(self, neck: nn.Module, channels: Sequence[int], is_plain: bool) -> None:
        super().__init__()
        pairs = zip((3, *channels), channels, strict=False)
        stages = [nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairs]
        self.stages = nn.ModuleList([nn.Conv2d(3, channels[0], 4, stride=4)] if is_plain else stages)
        self.count = len(channels)
        self.neck = neck

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        maps = {}
        for i in range(self.count):
            x = self.stages[i](x) if i < len(self.stages) else x
            maps[str(i)] = x
        return self.neck(maps)


@pytest.mark.slow
@every_traced
def test_it_exports_with_any_height_and_width(case) -> None:
    channels = case.traced_channels
    neck = randomize_zeros(case.make(channels, LastLevelMaxPool()))
    model = Backbone(neck, channels, case.is_plain).eval()
    sizes = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    exported = torch.export.export(model, (torch.randn(1, 3, 120, 184),), dynamic_shapes=(sizes,)).module()
    for size in [(120, 184), (64, 64), (133, 207), (34, 97)]:
        image = torch.randn(1, 3, *size)
        expected = model(image)
        for name, m in exported(image).items():
            assert_close(m, expected[name])


WRONG_MAPS = {
    "too few": lambda c: c[:-1],
    "too many": lambda c: [*c, c[-1]],
    "channels": lambda c: [c[0], c[1][:, :3], *c[2:]],
    "no batch": lambda c: [c[0][0], *c[1:]],
    "stride": lambda c: [c[0], F.interpolate(c[1], scale_factor=2), *c[2:]],
    "coarser still": lambda c: [*c[:-1], F.avg_pool2d(c[-1], 2)],
}


@every_neck
@pytest.mark.parametrize("wrong", WRONG_MAPS)
def test_the_message_about_wrong_maps_is_one_sentence(case, wrong, pyramid_maps) -> None:
    count, (first, second) = len(case.channels), case.channels[:2]
    must_be = "must be as large as" if case.is_plain else "must be half of"
    patterns = {
        "too few": f"built for {count} levels but got {count - 1}",
        "too many": f"built for {count} levels but got {count + 1}",
        "channels": rf"Level '1' must be \(N, {second}, H, W\) but is \(2, 3,",
        "no batch": rf"Level '0' must be \(N, {first}, H, W\)",
        "stride": f"Level '1' is {'64x96' if case.is_plain else '32x48'} but {must_be} level '0'",
        "coarser still": rf"Level '{count - 1}' is \d+x\d+ but {must_be} level '{count - 2}'",
    }
    with pytest.raises(UsageError, match=patterns[wrong]) as caught:
        case.make()(WRONG_MAPS[wrong](case.maps(pyramid_maps)))
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    assert ". " not in message


@every_with_strides
def test_maps_in_the_wrong_order_are_recognized_by_their_channels(case, pyramid_maps) -> None:
    first, last = case.channels[0], case.channels[-1]
    with pytest.raises(UsageError, match=rf"Level '0' must be \(N, {first}, H, W\) but is \(2, {last},"):
        case.make()(case.maps(pyramid_maps)[::-1])


@every_with_strides
def test_maps_in_the_wrong_order_are_recognized_by_their_sizes(case, pyramid_maps) -> None:
    channels = (4,) * len(case.channels)
    maps = dict(zip("dcba", pyramid_maps(channels)[::-1], strict=False))
    h, w = maps["d"].shape[-2:]
    pattern = rf"Level 'c' is {2 * h}x{2 * w} but must be half of level 'd' \({h}x{w}\).*finest first"
    with pytest.raises(UsageError, match=pattern):
        case.make(channels)(maps)


def test_fpn_equals_torchvisions_with_the_same_weights(pyramid_maps) -> None:
    theirs = FeaturePyramidNetwork(list(C), 8, LastLevelMaxPool())
    ours = FPN(C, 8, LastLevelMaxPool())
    convs = [*theirs.inner_blocks, *theirs.layer_blocks]
    for mine, other in zip([*ours.lateral, ours.top, *ours.smooth], convs, strict=True):
        mine.load_state_dict(other[0].state_dict())
    maps = OrderedDict(zip("0123", pyramid_maps(C, 37, 50), strict=True))
    expected = theirs(maps)
    actual = ours(maps)
    assert list(actual) == list(expected)
    for name, m in actual.items():
        assert_close(m, expected[name])


def test_the_example_in_the_docstring_of_step_neck_works(pyramid_maps) -> None:
    example = StepNeck.__doc__.split("::\n")[1].split("    Args:")[0]
    names = {"nn": nn, "F": F, "StepNeck": StepNeck}
    exec(textwrap.dedent(example), names)
    own = names["MyNeck"](C, 8)
    maps = pyramid_maps(C, 21, 34)
    p = own.top(maps[3])
    expected = [own.smooth[3](p)]
    for i in (2, 1, 0):
        p = own.lateral[i](maps[i]) + F.interpolate(p, size=maps[i].shape[-2:], mode="bilinear")
        expected.insert(0, own.smooth[i](p))
    assert_close(own(maps), expected)


def test_extra_convs_read_the_backbone_or_the_output_levels() -> None:
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
    with pytest.raises(UsageError, match="at least two positive numbers"):
        FPN(channels)
