"""What all pyramids share: lateral convolutions, a top-down path, a bottom-up path and extra levels."""

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.ops import fuse
from drfpn.utils.errors import UserError

Step = Callable[[int], nn.Module]
"""Makes a part of a pyramid for a number of channels, such as the module that joins two neighbouring levels."""


def init_convs(module: nn.Module) -> None:
    """Start every convolution inside of ``module`` with Kaiming's uniform law (a = 1) and its bias at zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_uniform_(layer.weight, a=1)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def init_zeros(conv: nn.Conv2d) -> None:
    """Start a convolution at zero."""
    nn.init.zeros_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def check_channels(in_channels: Sequence[int]) -> None:
    """Raise a ``UserError`` where ``in_channels`` are not those of a pyramid."""
    if len(in_channels) < 2 or min(in_channels) < 1:
        raise UserError(f"in_channels must give at least two positive numbers, finest first, not {in_channels}.")


def conv3x3(channels: int) -> nn.Conv2d:
    """Make the convolution that smooths a level."""
    conv = nn.Conv2d(channels, channels, 3, padding=1)
    init_convs(conv)
    return conv


class ResidualConv(nn.Module):
    """A 3x3 convolution with a shortcut around it, ``x + conv(x)``, which begins as the identity, bit for bit.

    It can be what a plain 3x3 convolution can be. With a Dirac kernel in place of the shortcut the beginning would be
    rounded wherever the library does not convolve directly (Winograd, TF32).

    Args:
        channels: of the map that comes in and of the one that leaves.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        init_zeros(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        return self.conv(x) + x


def crop_like(m: Tensor, like: Tensor) -> Tensor:
    """Cut ``m``, which a stride rounded up, to the height and width of ``like``, which may be rounded down."""
    if not torch.compiler.is_compiling() and m.shape[-2:] == like.shape[-2:]:
        return m  # a slice costs a copy in the backward pass
    return m[..., : like.shape[-2], : like.shape[-1]]


def pad_or_crop(m: Tensor, size: Sequence[int]) -> Tensor:
    """Cut ``m`` to a height and width, or repeat its last row and column where it is smaller by one."""
    # always padded, and by so much that something is always cut: a graph of any size cannot ask which of these it is
    return F.pad(m, (0, 2, 0, 2), mode="replicate")[..., : size[0], : size[1]]


class TopDownPath(nn.Module):
    """Hands content from the coarsest level to the finest; ``steps[i]`` joins level i with i + 1."""

    def __init__(self, steps: Sequence[nn.Module]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)

    def forward(self, laterals: list[Tensor]) -> list[Tensor]:
        """Return the merged levels, finest first; a step maps (fine, coarse) to the merged fine map."""
        p = list(laterals)
        for i in reversed(range(len(self.steps))):
            p[i] = self.steps[i](p[i], p[i + 1])
        return p


class BottomUpPath(nn.Module):
    """Hands content from the finest level back to the coarsest, then smooths each level but the finest."""

    def __init__(self, steps: Sequence[nn.Module], channels: int, smooth: Step = conv3x3) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)
        self.smooth = nn.ModuleList(smooth(channels) for _ in steps)

    def forward(self, p: list[Tensor]) -> list[Tensor]:
        """Return N2.. from P2..; a step maps (finer merged map, coarse) to the merged coarse map."""
        n = list(p)
        for i, step in enumerate(self.steps):
            n[i + 1] = step(n[i], n[i + 1])
        return [n[0], *(conv(m) for conv, m in zip(self.smooth, n[1:], strict=True))]


class Coarser(nn.Module):
    """Makes levels beyond the backbone's that take part in a pyramid's paths; by default none.

    Args:
        steps: the first maps the backbone's coarsest map to a level of half its size, each other one the level before
            it to the next.
        names: of these levels.
        instead_of: the ``ExtraFPNBlock`` in whose place they stand; it is kept, unused, for who puts another pyramid
            in the place of this one.
    """

    def __init__(
        self, steps: Sequence[nn.Module] = (), names: Sequence[str] = (), instead_of: ExtraFPNBlock | None = None
    ) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)
        self.names = list(names)
        self._instead_of = (instead_of,)  # in a tuple: its parameters are none of the pyramid's

    @property
    def instead_of(self) -> ExtraFPNBlock | None:
        """The block in whose place these levels stand."""
        return self._instead_of[0]

    def forward(self, c: Tensor) -> list[Tensor]:
        """Return the levels made from ``c`` (N, C, H, W), finest first."""
        levels = []
        for step in self.steps:
            c = step(c)
            levels.append(c)
        return levels


class Neck(nn.Module):
    """What turns a backbone's maps into levels of one width, assembled from modules; see :class:`StepNeck`.

    Args:
        in_channels: channels of the backbone's maps, finest first.
        out_channels: channels of every level that leaves.
        lateral: what each of these maps passes first, finest first.
        smooth: what each level passes behind ``top_down``.
        top_down: maps the list of levels, finest first, to one of the same sizes.
        bottom_up: maps the list behind ``smooth`` to the one that leaves; ``None`` for none.
        coarser: makes levels that pass through all this too, behind the backbone's.
        extra_blocks: torchvision's ``ExtraFPNBlock``, called in the end with (levels, backbone maps, names).
        refine: maps the list of all levels that leave, the extra ones too, to one of the same sizes; ``None`` for none.

    Attributes:
        first_level: the finest level of the backbone that detectors hand over at most: 2 for C2, 3 for C3.
        plain: whether it makes its levels from one map, that of a plain backbone such as ViT.
    """

    first_level: ClassVar[int] = 2
    plain: ClassVar[bool] = False

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        *,
        lateral: Sequence[nn.Module],
        smooth: Sequence[nn.Module],
        top_down: nn.Module,
        bottom_up: nn.Module | None = None,
        coarser: Coarser | None = None,
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
        self.coarser = coarser or Coarser()
        self.extra_blocks = extra_blocks
        self.refine = refine or nn.Identity()

    @overload
    def forward(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]: ...

    @overload
    def forward(self, maps: Sequence[Tensor]) -> Sequence[Tensor]: ...

    def forward(self, maps: Mapping[str, Tensor] | Sequence[Tensor]) -> dict[str, Tensor] | Sequence[Tensor]:
        """Turn C2.. into N2.. (P2.. without a bottom-up path).

        Args:
            maps: the backbone's maps (N, C, H, W), finest first, by name or in order. Each level halves the one
                before it, rounded up or down.

        Returns:
            The same kind of collection, each level with ``out_channels`` and its own size, extra levels behind.

        Raises:
            UserError: a level that is missing, has other channels, is out of order or does not halve.
        """
        names = list(maps) if isinstance(maps, Mapping) else [str(i) for i in range(len(maps))]
        c = list(maps.values()) if isinstance(maps, Mapping) else list(maps)
        if not torch.compiler.is_compiling():  # a traced graph has fixed levels, and guards on sizes would bind it
            self._check(names, c)

        laterals = [conv(m) for conv, m in zip(self.lateral, c, strict=False)]
        n, names = self.join([*laterals, self.top(c[-1]), *self.coarser(c[-1])], c, names)
        if isinstance(maps, Mapping):
            return dict(zip(names, n, strict=True))
        return tuple(n) if isinstance(maps, tuple) else n

    def join(self, laterals: list[Tensor], c: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        """Return all levels and their names, finest first, from laterals of one width and the backbone's maps ``c``."""
        p = self.top_down(laterals)
        p = [conv(m) for conv, m in zip(self.smooth, p, strict=True)]
        n = self.bottom_up(p)
        names = [*names, *self.coarser.names]
        if self.extra_blocks is not None:
            n, names = self.extra_blocks(n, c, names)
        return self.refine(n), names

    def fuse(self) -> "Neck":
        """Return a copy for inference, whose BatchNorms are part of the convolutions before them: the same numbers."""
        first = next(self.parameters())
        sides = [64 >> level for level in range(len(self.in_channels))]
        maps = [first.new_zeros(1, c, side, side) for c, side in zip(self.in_channels, sides, strict=True)]
        return fuse(self, maps)

    def _check(self, names: list[str], c: list[Tensor]) -> None:
        self._check_channels(names, c)
        for i in range(1, len(c)):
            fine, coarse = c[i - 1].shape[-2:], c[i].shape[-2:]
            halves = all(b in (a // 2, (a + 1) // 2) for a, b in zip(fine, coarse, strict=True))
            if not halves or min(coarse) < 1:
                raise UserError(
                    f"Level '{names[i]}' is {coarse[0]}x{coarse[1]} but must be half of level '{names[i - 1]}' "
                    f"({fine[0]}x{fine[1]}), rounded up or down: give the maps finest first, each of twice the "
                    "stride of the one before."
                )

    def _check_channels(self, names: list[str], c: list[Tensor]) -> None:
        if len(c) != len(self.in_channels):
            raise UserError(f"The pyramid was built for {len(self.in_channels)} levels but got {len(c)}: {names}.")
        for name, m, channels in zip(names, c, self.in_channels, strict=True):
            if m.ndim != 4 or m.shape[1] != channels:
                raise UserError(f"Level '{name}' must be (N, {channels}, H, W) but is {tuple(m.shape)}.")


class StepNeck(Neck):
    """A feature pyramid, composed of parts.

    ``lateral`` (1x1) and ``top`` bring the backbone's maps to one width, ``top_down`` joins neighbours, ``smooth``
    (3x3) runs once on each level, ``bottom_up`` joins neighbours the other way, ``extra_blocks`` adds levels, and
    ``refine`` sees all of them at once.
    Every pyramid of this package, and each row of the paper's tables, is another choice of these parts. A pyramid
    of your own is one step of your own::

        class BilinearAdd(nn.Module):
            def forward(self, fine, coarse):
                return fine + F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear")

        class MyPyramid(Pyramid):
            def __init__(self, in_channels, out_channels=256, extra_blocks=None):
                super().__init__(in_channels, out_channels, extra_blocks, top_down=lambda channels: BilinearAdd())

    Args:
        in_channels: channels of the backbone's maps, finest first.
        out_channels: channels of every level that leaves.
        extra_blocks: torchvision's ``ExtraFPNBlock``, called with (levels, backbone maps, names).
        top: module in place of the 1x1 convolution on the coarsest map, such as a context module.
        top_down: makes the step of the top-down path.
        bottom_up: makes the step of the bottom-up path; ``None`` for none.
        smooth: makes what runs once on each level after the top-down path; ``None`` for a 3x3 convolution.
        smooth_up: makes what runs once on each level after the bottom-up path, the finest excepted.
        coarser: makes levels beyond the backbone's that pass through all this too; ``None`` for none.
        refine: maps the list of all levels that leave, the extra ones too, to one of the same sizes; ``None`` for none.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        extra_blocks: ExtraFPNBlock | None = None,
        *,
        top: nn.Module | None = None,
        top_down: Step,
        bottom_up: Step | None = None,
        smooth: Step | None = None,
        smooth_up: Step = conv3x3,
        coarser: Coarser | None = None,
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
