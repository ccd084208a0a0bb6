"""A new pyramid with the weights of the old one, as far as it has a place for them, and what that changes."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from drfpn.necks import Neck

_SIDES = (40, 20, 10, 5)
"""Of the maps on which two pyramids are compared; more levels halve further, at least one pixel."""


class Upgrade(NamedTuple):
    """What became of the levels that a detector's heads see when its pyramid was replaced."""

    old: str
    """Name of the class."""
    new: str
    difference: float
    """Of the levels of the two pyramids on the same maps: root mean square over that of the old levels; 0 if equal."""
    fresh: tuple[str, ...]
    """Parts of the new pyramid that hold no weights of the old one."""
    lost: tuple[str, ...]
    """Parts of the old pyramid for whose weights the new one has no place."""

    @property
    def exact(self) -> bool:
        """Whether the levels are equal, bit for bit."""
        return self.difference == 0

    def __str__(self) -> str:
        if self.exact:
            return f"{self.new} begins where {self.old} ended: its levels are equal bit for bit"
        parts = [f"{_join(self.fresh)} of {self.new} begin anew"] if self.fresh else []
        parts += [f"{self.old} had more in {_join(self.lost)}"] if self.lost else []
        percent = 100 * self.difference
        by = f"{percent:.2g}" if percent < 10 else f"{percent:.0f}"
        return (
            f"{self.new} does not begin where {self.old} ended: {', '.join(parts) or 'the two compute otherwise'}, and "
            f"its levels differ by {by} % (root mean square), so detections change until it is trained; what begins "
            "exactly as an FPN is DRFPN as it is by default, PAFPN with residual=True, and fpn_scale"
        )


def upgrade(old: nn.Module, new: Neck) -> Upgrade:
    """Load into ``new`` what it shares with ``old`` (laterals, 3x3 convolutions, extra levels), and compare the two.

    Args:
        old: torchvision's ``FeaturePyramidNetwork`` or a pyramid of this library; it is left as it is.
        new: for the same channels, on the same device, in the same mode and memory format.
    """
    given = {name: value for name, value in _names_of_ours(old).items() if not name.endswith("num_batches_tracked")}
    own = {name: value for name, value in new.state_dict().items() if not name.endswith("num_batches_tracked")}
    for name in ("weight", "bias"):  # a context module may hold FPN's 1x1 convolution of the coarsest map
        for here, there in ((f"top.{name}", f"top.reduce.{name}"), (f"top.reduce.{name}", f"top.{name}")):
            if here in own and there in given and here not in given:
                given[here] = given.pop(there)
    taken = {name: value for name, value in given.items() if name in own and own[name].shape == value.shape}
    new.load_state_dict(taken, strict=False)
    return Upgrade(
        type(old).__name__,
        type(new).__name__,
        _difference(old, new),
        _parts(name for name in own if name not in taken),
        _parts(name for name in given if name not in taken),
    )


def _names_of_ours(fpn: Any) -> dict[str, Tensor]:
    """Return a pyramid's tensors under the names of ours."""
    if not hasattr(fpn, "inner_blocks"):
        return dict(fpn.state_dict())
    tensors: dict[str, Tensor] = {}
    last = len(fpn.inner_blocks) - 1
    for i, (lateral, smooth) in enumerate(zip(fpn.inner_blocks, fpn.layer_blocks, strict=True)):
        for ours, block in ((f"lateral.{i}" if i < last else "top", lateral), (f"smooth.{i}", smooth)):
            tensors |= {f"{ours}.{name.removeprefix('0.')}": value for name, value in block.state_dict().items()}
    if fpn.extra_blocks is not None:
        tensors |= {f"extra_blocks.{name}": value for name, value in fpn.extra_blocks.state_dict().items()}
    return tensors


def _difference(old: Any, new: Neck) -> float:
    """Compare what two pyramids make of the same maps, in evaluation mode."""
    like = next(new.parameters())
    generator = torch.Generator().manual_seed(0)
    maps = {}
    for i, channels in enumerate(new.in_channels):
        side = _SIDES[i] if i < len(_SIDES) else max(1, _SIDES[-1] >> (i - len(_SIDES) + 1))
        m = torch.randn(2, channels, side, side + side // 2, generator=generator, dtype=torch.float64)
        maps[str(i)] = m.to(like)
    maps = {name: m.contiguous(memory_format=memory_format(new)) for name, m in maps.items()}
    before, after = (list(evaluated(pyramid, pyramid, dict(maps)).values()) for pyramid in (old, new))
    error = sum(float((a - b).double().square().sum()) for a, b in zip(after, before, strict=True))
    whole = sum(float(b.double().square().sum()) for b in before)
    return (error / whole) ** 0.5 if whole else float(error > 0)


def evaluated(whole: nn.Module, part: nn.Module, given: Any) -> Any:
    """Call a part in evaluation mode, and leave the modes of the whole as they were: layers may differ."""
    modes = {module: module.training for module in whole.modules()}
    whole.eval()
    try:
        with torch.no_grad():
            return part(given)
    finally:
        for module, mode in modes.items():
            module.training = mode


def memory_format(module: nn.Module) -> torch.memory_format:
    """Return the layout of a module's convolutions."""
    weights = [p for p in module.parameters() if p.ndim == 4 and p.shape[1] > 1 and p.shape[2] > 1]
    last = bool(weights) and all(p.is_contiguous(memory_format=torch.channels_last) for p in weights)
    return torch.channels_last if last else torch.contiguous_format


def _parts(names: Iterable[str]) -> tuple[str, ...]:
    """Return the parts that tensors belong to, each once: the first part of their names, two of a context module's."""
    parts: dict[str, None] = {}
    for name in names:
        first, *others = name.split(".")
        parts[f"top.{others[0]}" if first == "top" and len(others) > 1 else first] = None
    return tuple(parts)


def _join(parts: tuple[str, ...]) -> str:
    return ", ".join(f"'{part}'" for part in parts)
