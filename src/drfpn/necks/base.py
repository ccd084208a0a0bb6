"""Base classes of all necks, ``Neck`` and ``StepNeck``, and their parts: paths between levels, extra levels."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar, overload

import torch
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.necks.layers.convs import conv3x3, init_convs
from drfpn.necks.layers.extra_levels import extra_level_names, reads_backbone_map
from drfpn.ops import fuse
from drfpn.utils.errors import UsageError

LayerFactory = Callable[[int], nn.Module]
"""Makes a module for a number of channels, such as a step that fuses two neighboring levels."""


Value = TypeVar("Value")


class Level(NamedTuple):
    """Name and stride of one level of a feature pyramid."""

    name: str
    """Key of its map among a neck's output levels."""
    stride: int
    """Pixels of the image from one cell of the map to the next."""

    @property
    def number(self) -> int:
        """Number of the level in names such as C2 and P5: the binary logarithm of its stride, rounded down."""
        return self.stride.bit_length() - 1


def check_channels(in_channels: Sequence[int]) -> None:
    """Check the channels of a backbone's maps, finest first.

    Raises:
        UsageError: fewer than two maps, or a number of channels below 1.
    """
    if len(in_channels) < 2 or min(in_channels) < 1:
        raise UsageError(f"in_channels must give at least two positive numbers, finest first, not {in_channels}.")


class TopDownPath(nn.Module):
    """Top-down path: fuses each level with the next coarser one, from the coarsest to the finest.

    Args:
        steps: modules (fine, coarse) -> fused fine map; ``steps[i]`` fuses level i with level i + 1.
    """

    def __init__(self, steps: Sequence[nn.Module]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)

    def forward(self, laterals: list[Tensor]) -> list[Tensor]:
        """Return the fused levels P2.., from laterals (N, C, H, W) of one width, both finest first."""
        p = list(laterals)
        for i in reversed(range(len(self.steps))):
            p[i] = self.steps[i](p[i], p[i + 1])
        return p


class BottomUpPath(nn.Module):
    """Bottom-up path: fuses each level with the next finer one, then smooths each level but the finest.

    Args:
        steps: modules (fused finer map, coarse) -> fused coarse map; ``steps[i]`` fuses level i with level i + 1.
        channels: width of the levels.
        smooth: makes the module behind each step.
    """

    def __init__(self, steps: Sequence[nn.Module], channels: int, smooth: LayerFactory = conv3x3) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)
        self.smooth = nn.ModuleList(smooth(channels) for _ in steps)

    def forward(self, p: list[Tensor]) -> list[Tensor]:
        """Return N2.. from P2.. (N, C, H, W), both finest first."""
        n = list(p)
        for i, step in enumerate(self.steps):
            n[i + 1] = step(n[i], n[i + 1])
        return [n[0], *(conv(m) for conv, m in zip(self.smooth, n[1:], strict=True))]


class CoarserLevels(nn.Module):
    """Makes levels beyond the backbone's that pass through the paths of a neck; by default none.

    Args:
        steps: the first maps the backbone's coarsest map to a level of half its size, each other one the level before
            it to the next.
        names: names of these levels.
    """

    def __init__(self, steps: Sequence[nn.Module] = (), names: Sequence[str] = ()) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)
        self.names = list(names)

    def forward(self, c: Tensor) -> list[Tensor]:
        """Return the levels made from C5, ``c`` (N, C, H, W), finest first."""
        levels = []
        for step in self.steps:
            c = step(c)
            levels.append(c)
        return levels


class Neck(nn.Module):
    """Base class of all necks: turns a backbone's maps into levels of one width; see also :class:`StepNeck`.

    Args:
        in_channels: channels of the backbone's maps, finest first.
        out_channels: channels of every output level.
        lateral: modules that bring the backbone's maps to the width of the path, finest first.
        smooth: modules behind the top-down path, one for each level.
        top_down: maps the list of levels, finest first, to one of the same sizes.
        bottom_up: maps the list behind ``smooth`` to one of the same sizes; ``None`` for none.
        coarser: makes levels behind the backbone's that pass through all this too, in place of ``extra_blocks``.
        extra_blocks: torchvision's ``ExtraFPNBlock``, called with (levels, backbone maps, names); unused with
            ``coarser``.
        refine: maps the list of all output levels, extra levels included, to one of the same sizes; ``None`` for none.

    Attributes:
        backbone_strides: strides of the backbone's maps that detectors give to it, finest first; detectors that start
            at P3 give it the last three. Where all are 16, they are the map of a plain backbone such as a ViT.
    """

    backbone_strides: ClassVar[tuple[int, ...]] = (4, 8, 16, 32)

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        *,
        lateral: Sequence[nn.Module],
        smooth: Sequence[nn.Module],
        top_down: nn.Module,
        bottom_up: nn.Module | None = None,
        coarser: CoarserLevels | None = None,
        extra_blocks: ExtraFPNBlock | None = None,
        refine: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.in_channels = list(in_channels)
        self.out_channels = out_channels
        self.lateral = nn.ModuleList(lateral[:-1])
        self.top = lateral[-1]
        self.smooth = nn.ModuleList(smooth)
        self.top_down = top_down
        self.bottom_up = bottom_up or nn.Identity()
        self.coarser = coarser or CoarserLevels()
        self.extra_blocks = extra_blocks if coarser is None else None
        # not a submodule: where `coarser` takes its place, its parameters are not the neck's
        object.__setattr__(self, "_given_extra_blocks", extra_blocks)
        self.refine = refine or nn.Identity()

    @property
    def given_extra_blocks(self) -> ExtraFPNBlock | None:
        """The ``extra_blocks`` that the neck was built with, also where ``coarser`` makes these levels instead."""
        block: ExtraFPNBlock | None = self.__dict__["_given_extra_blocks"]
        return block

    def out_levels(self, in_strides: Mapping[str, int] | Sequence[int]) -> list[Level]:
        """Return names and strides of all output levels, extra levels included, finest first.

        Args:
            in_strides: strides of the backbone's maps in pixels of the image, finest first, by name or in order, as
                the maps that :meth:`forward` takes.
        """
        names, strides = _names_and_values(in_strides)
        out_strides = self._out_strides(strides)
        levels = [Level(name, stride) for name, stride in zip(names, out_strides, strict=True)]
        extra = [*self.coarser.names, *extra_level_names(self.extra_blocks)]
        from_backbone = bool(self.coarser.names) or reads_backbone_map(self.extra_blocks)
        source = strides[-1] if from_backbone else out_strides[-1]
        return levels + [Level(name, source * 2**i) for i, name in enumerate(extra, start=1)]

    def _out_strides(self, in_strides: list[int]) -> list[int]:
        """Return the strides of the levels that take the place of the backbone's maps, here their own."""
        return in_strides

    @overload
    def forward(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]: ...

    @overload
    def forward(self, maps: Sequence[Tensor]) -> Sequence[Tensor]: ...

    def forward(self, maps: Mapping[str, Tensor] | Sequence[Tensor]) -> dict[str, Tensor] | Sequence[Tensor]:
        """Turn C2.. into N2.. (P2.. without a bottom-up path).

        Args:
            maps: the backbone's maps (N, in_channels[i], H, W), finest first, by name or in order. Each has half the
                size of the one before it, rounded up or down.

        Returns:
            The same kind of collection: a level (N, out_channels, H, W) for each map, of its size, and behind them
            the extra levels.

        Raises:
            UsageError: a map that is missing, has other channels, is out of order or is not half as large.
        """
        names, c = _names_and_values(maps)
        if not torch.compiler.is_compiling():  # a traced graph has fixed levels, and guards on sizes would bind it
            self._check(names, c)

        n, names = self.merge(self.project(c), c, names)
        if isinstance(maps, Mapping):
            return dict(zip(names, n, strict=True))
        return tuple(n) if isinstance(maps, tuple) else n

    def project(self, c: list[Tensor]) -> list[Tensor]:
        """Return the laterals (N, C, H, W) of the backbone's maps ``c``, finest first, then those of ``coarser``."""
        laterals = [conv(m) for conv, m in zip(self.lateral, c, strict=False)]
        return [*laterals, self.top(c[-1]), *self.coarser(c[-1])]

    def merge(self, laterals: list[Tensor], c: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        """Pass the laterals through the paths and add the extra levels.

        Args:
            laterals: maps (N, C, H, W) of one width, finest first.
            c: the backbone's maps, finest first.
            names: names of the backbone's maps.

        Returns:
            All output levels and their names, finest first.
        """
        p = self.top_down(laterals)
        p = [conv(m) for conv, m in zip(self.smooth, p, strict=True)]
        n = self.bottom_up(p)
        names = [*names, *self.coarser.names]
        if self.extra_blocks is not None:
            n, names = self.extra_blocks(n, c, names)
        return self.refine(n), names

    def fuse(self) -> "Neck":
        """Return a copy for inference whose BatchNorms are folded into the convolutions before them."""
        parameter = next(self.parameters())
        sides = [64 >> level for level in range(len(self.in_channels))]
        maps = [parameter.new_zeros(1, c, side, side) for c, side in zip(self.in_channels, sides, strict=True)]
        return fuse(self, maps)

    def _check(self, names: list[str], c: list[Tensor]) -> None:
        self._check_channels(names, c)
        for i in range(1, len(c)):
            fine, coarse = c[i - 1].shape[-2:], c[i].shape[-2:]
            halves = all(b in (a // 2, (a + 1) // 2) for a, b in zip(fine, coarse, strict=True))
            if not halves or min(coarse) < 1:
                raise UsageError(
                    f"Level '{names[i]}' is {coarse[0]}x{coarse[1]} but must be half of level '{names[i - 1]}' "
                    f"({fine[0]}x{fine[1]}), rounded up or down: give the maps finest first, each of twice the "
                    "stride of the one before."
                )

    def _check_channels(self, names: list[str], c: list[Tensor]) -> None:
        if len(c) != len(self.in_channels):
            raise UsageError(f"The neck was built for {len(self.in_channels)} levels but got {len(c)}: {names}.")
        for name, m, channels in zip(names, c, self.in_channels, strict=True):
            if m.ndim != 4 or m.shape[1] != channels:
                raise UsageError(f"Level '{name}' must be (N, {channels}, H, W) but is {tuple(m.shape)}.")


def _names_and_values(of_levels: Mapping[str, Value] | Sequence[Value]) -> tuple[list[str], list[Value]]:
    """Return the names of levels, "0", "1", ... if they have none, and the value of each."""
    if isinstance(of_levels, Mapping):
        return list(of_levels), list(of_levels.values())
    return [str(i) for i in range(len(of_levels))], list(of_levels)


class NeckClass(Protocol):
    """A subclass of :class:`Neck`, called with (in_channels, out_channels, extra_blocks, **options)."""

    @property
    def backbone_strides(self) -> tuple[int, ...]:
        """Strides of the backbone's maps, see :class:`Neck`."""

    def __call__(self, *args: Any, **options: Any) -> Neck:
        """Make a neck."""


class StepNeck(Neck):
    """A neck with a top-down path and, if given, a bottom-up path, composed of steps that fuse two neighboring levels.

    ``lateral`` (1x1) and ``top`` bring the backbone's maps to one width, ``top_down`` fuses them from coarse to fine,
    ``smooth`` (3x3) runs once on each level, ``bottom_up`` fuses the levels from fine to coarse, ``extra_blocks`` adds
    levels, and ``refine`` reads all levels at once.
    FPN, DRFPN, each row of the paper's tables and most other necks differ in these parts. To make a neck of your own,
    write its step::

        class BilinearAdd(nn.Module):
            def forward(self, fine, coarse):
                return fine + F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear")

        class MyNeck(StepNeck):
            def __init__(self, in_channels, out_channels=256, extra_blocks=None):
                super().__init__(in_channels, out_channels, extra_blocks, top_down=lambda channels: BilinearAdd())

    Args:
        in_channels: channels of the backbone's maps, finest first.
        out_channels: channels of every output level.
        extra_blocks: torchvision's ``ExtraFPNBlock``, called with (levels, backbone maps, names).
        top: module in place of the 1x1 convolution on the coarsest map, such as a context module.
        top_down: makes a step of the top-down path.
        bottom_up: makes a step of the bottom-up path; ``None`` for no such path.
        smooth: makes the module that runs once on each level behind the top-down path; ``None`` for a 3x3 convolution.
        smooth_up: makes the module that runs once on each level but the finest behind the bottom-up path.
        coarser: makes levels behind the backbone's that pass through all this too, in place of ``extra_blocks``;
            ``None`` for none.
        refine: maps the list of all output levels, extra levels included, to one of the same sizes; ``None`` for none.

    Raises:
        UsageError: channels of fewer than two maps.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        extra_blocks: ExtraFPNBlock | None = None,
        *,
        top: nn.Module | None = None,
        top_down: LayerFactory,
        bottom_up: LayerFactory | None = None,
        smooth: LayerFactory | None = None,
        smooth_up: LayerFactory = conv3x3,
        coarser: CoarserLevels | None = None,
        refine: nn.Module | None = None,
    ) -> None:
        check_channels(in_channels)
        levels = len(in_channels) + len(coarser.names if coarser else ())
        pairs = range(levels - 1)
        projected = in_channels if top is None else in_channels[:-1]
        projections = nn.ModuleList(nn.Conv2d(channels, out_channels, 1) for channels in projected)
        smoothing = [(smooth or conv3x3)(out_channels) for _ in range(levels)]
        init_convs(projections)
        super().__init__(
            in_channels,
            out_channels,
            lateral=[*projections] if top is None else [*projections, top],
            smooth=smoothing,
            top_down=TopDownPath([top_down(out_channels) for _ in pairs]),
            bottom_up=BottomUpPath([bottom_up(out_channels) for _ in pairs], out_channels, smooth_up)
            if bottom_up
            else None,
            coarser=coarser,
            extra_blocks=extra_blocks,
            refine=refine,
        )
