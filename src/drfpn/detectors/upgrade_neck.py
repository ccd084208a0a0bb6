"""``upgrade_neck``: initializes a new neck with the weights that it shares with an old one."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from drfpn.necks import Neck

_SIDES = (40, 20, 10, 5)
"""Sides of the maps on which two necks are compared; each further level has half the side, at least one pixel."""


class UpgradeReport(NamedTuple):
    """Result of :func:`upgrade_neck`; ``str()`` makes a sentence of it, without its period."""

    old: str
    """Class name of the old neck."""
    new: str
    """Class name of the new neck."""
    difference: float
    """Root mean square difference of the output levels on the same maps, relative to that of the old levels."""
    new_parts: tuple[str, ...]
    """Parts of the new neck without weights from the old one."""
    dropped_parts: tuple[str, ...]
    """Parts of the old neck whose weights the new one does not have."""

    @property
    def exact(self) -> bool:
        """Whether the output levels are bitwise equal."""
        return self.difference == 0

    def __str__(self) -> str:
        if self.exact:
            return f"{self.new} starts from the weights of {self.old} and its levels are bitwise equal"
        parts = [f"{_join(self.new_parts)} of {self.new} are newly initialized"] if self.new_parts else []
        parts += [f"{_join(self.dropped_parts)} of {self.old} are dropped"] if self.dropped_parts else []
        percent = 100 * self.difference
        by = f"{percent:.2g}" if percent < 10 else f"{percent:.0f}"
        return (
            f"{self.new} is not equal to {self.old}: {', '.join(parts) or 'the two compute differently'}, and its "
            f"levels differ by {by} % (root mean square), so detections change until it is trained; DRFPN with its "
            "default options, PAFPN with residual=True and fpn_scale start equal to FPN"
        )


def upgrade_neck(old: nn.Module, new: Neck) -> UpgradeReport:
    """Load the weights that two necks share (laterals, 3x3 convolutions, extra levels) into the new one.

    Args:
        old: torchvision's ``FeaturePyramidNetwork`` or a neck of this library; it is not changed.
        new: neck for the same channels, on the same device, in the same mode and memory format.

    Returns:
        The difference between the output levels of the two.
    """
    loaded = {name: value for name, value in _tensors_of(old).items() if not name.endswith("num_batches_tracked")}
    own = {name: value for name, value in new.state_dict().items() if not name.endswith("num_batches_tracked")}
    for name in ("weight", "bias"):  # a context module may contain FPN's 1x1 convolution of the coarsest map
        for target, source in ((f"top.{name}", f"top.reduce.{name}"), (f"top.reduce.{name}", f"top.{name}")):
            if target in own and source in loaded and target not in loaded:
                loaded[target] = loaded.pop(source)
    shared = {name: value for name, value in loaded.items() if name in own and own[name].shape == value.shape}
    new.load_state_dict(shared, strict=False)
    return UpgradeReport(
        old=type(old).__name__,
        new=type(new).__name__,
        difference=_difference(old, new),
        new_parts=_parts(name for name in own if name not in shared),
        dropped_parts=_parts(name for name in loaded if name not in shared),
    )


def _tensors_of(fpn: Any) -> dict[str, Tensor]:
    """Return the tensors of a neck, those of torchvision's FPN under the names that they have in ``drfpn.FPN``."""
    if not hasattr(fpn, "inner_blocks"):
        return dict(fpn.state_dict())
    tensors: dict[str, Tensor] = {}
    last = len(fpn.inner_blocks) - 1
    for i, (lateral, smooth) in enumerate(zip(fpn.inner_blocks, fpn.layer_blocks, strict=True)):
        for prefix, block in ((f"lateral.{i}" if i < last else "top", lateral), (f"smooth.{i}", smooth)):
            tensors |= {f"{prefix}.{name.removeprefix('0.')}": value for name, value in block.state_dict().items()}
    if fpn.extra_blocks is not None:
        tensors |= {f"extra_blocks.{name}": value for name, value in fpn.extra_blocks.state_dict().items()}
    return tensors


def _difference(old: nn.Module, new: Neck) -> float:
    """Return the relative difference of the levels of two necks on the same random maps, in evaluation mode."""
    like = next(new.parameters())
    generator = torch.Generator().manual_seed(0)
    maps = {}
    for i, channels in enumerate(new.in_channels):
        side = _SIDES[i] if i < len(_SIDES) else max(1, _SIDES[-1] >> (i - len(_SIDES) + 1))
        m = torch.randn(2, channels, side, side + side // 2, generator=generator, dtype=torch.float64)
        maps[str(i)] = m.to(like)
    maps = {name: m.contiguous(memory_format=memory_format_of(new)) for name, m in maps.items()}
    before, after = (list(run_in_eval_mode(neck, neck, dict(maps)).values()) for neck in (old, new))
    error = sum(float((a - b).double().square().sum()) for a, b in zip(after, before, strict=True))
    total = sum(float(b.double().square().sum()) for b in before)
    return (error / total) ** 0.5 if total else float(error > 0)


def run_in_eval_mode(model: nn.Module, part: nn.Module, inputs: Any) -> Any:
    """Call a part of a model in evaluation mode without gradients, then restore the mode of each module.

    Args:
        model: the whole model.
        part: one of its modules.
        inputs: argument of ``part``.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            return part(inputs)
    finally:
        for module, mode in modes.items():
            module.training = mode


def memory_format_of(module: nn.Module) -> torch.memory_format:
    """Return the memory format of a module's convolutions."""
    weights = [p for p in module.parameters() if p.ndim == 4 and p.shape[1] > 1 and p.shape[2] > 1]
    channels_last = bool(weights) and all(p.is_contiguous(memory_format=torch.channels_last) for p in weights)
    return torch.channels_last if channels_last else torch.contiguous_format


def _parts(names: Iterable[str]) -> tuple[str, ...]:
    """Return the unique first components of tensor names, of a context module (``top``) the first two."""
    parts: dict[str, None] = {}
    for name in names:
        first, *others = name.split(".")
        parts[f"top.{others[0]}" if first == "top" and len(others) > 1 else first] = None
    return tuple(parts)


def _join(parts: tuple[str, ...]) -> str:
    return ", ".join(f"'{part}'" for part in parts)
