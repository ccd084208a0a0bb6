"""What flows inside of a detector's pyramid for one image."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from drfpn.errors import UserError
from drfpn.ops import warp, warp_released
from drfpn.pyramids.base import Pyramid
from drfpn.pyramids.crb import ChannelRefinement

DEAD_PIXELS = 0.01
"""Offsets that are all smaller do nothing that could be seen; pixels of the finer map."""


@dataclass(frozen=True)
class Inspection:
    """Inner values of a pyramid for one image, on the CPU, without the padding of the batch.

    A pair of levels is named by the index of its finer level. A step without an offset, weight or gate is missing
    in the dictionary.
    """

    laterals: list[Tensor]
    """(C, H, W) of each level before merging, finest first."""
    merged: dict[str, Tensor]
    """(C, H, W) of each level that leaves the pyramid, extra levels too."""
    offsets: dict[int, Tensor]
    """(2, H, W), (x, y), of the top-down path, in pixels of the finer map."""
    weights: dict[int, Tensor]
    """(H, W): omega of the top-down path."""
    gates: dict[int, Tensor]
    """(C,): alpha of the bottom-up path."""

    def dead_offsets(self) -> list[int]:
        """Return the pairs whose offsets are all below ``DEAD_PIXELS``."""
        return [i for i, offset in self.offsets.items() if offset.norm(dim=0).max() < DEAD_PIXELS]

    def dead_weights(self) -> list[int]:
        """Return the pairs whose weight omega is zero everywhere."""
        return [i for i, weight in self.weights.items() if not weight.any()]

    def dead_gates(self) -> list[int]:
        """Return the pairs whose gates are all equal."""
        return [i for i, gate in self.gates.items() if gate.max() == gate.min()]


def inspect_pyramid(model: nn.Module, image: Tensor) -> Inspection:
    """Run the backbone and the pyramid of ``model`` on one image and return what flows inside.

    Args:
        model: detector of this library; its own transform decides the size. Its mode is put back afterwards.
        image: uint8 or 0..1, (3, H, W).

    Raises:
        UserError: a model without a pyramid of this library, or offsets in an unknown unit.
    """
    backbone: Any = getattr(model, "backbone", None)
    transform: Any = getattr(model, "transform", None)
    neck: Any = getattr(backbone, "neck", None)
    if not isinstance(neck, Pyramid):
        raise UserError(f"The model must have a pyramid of this library, but its neck is {type(neck).__name__}.")
    device = next(model.parameters()).device
    pixels = (image / 255 if image.dtype == torch.uint8 else image).to(device)

    seen: dict[nn.Module, Tensor] = {}
    parts = [*neck.lateral, neck.top]
    steps = list(neck.top_down.steps)
    offset_heads = {i: head for i, step in enumerate(steps) if (head := _part(step, "offset")) is not None}
    weight_heads = {i: head for i, step in enumerate(steps) if (head := _part(step, "weight")) is not None}
    parts += [*offset_heads.values(), *weight_heads.values()]
    refinements = {i: r for i, step in enumerate(getattr(neck.bottom_up, "steps", [])) if (r := _refinement(step))}
    parts += [r.gate for r in refinements.values()]
    hooks = [part.register_forward_hook(lambda m, _, out: seen.__setitem__(m, out)) for part in parts]
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            images, _ = transform([pixels])
            levels = neck(backbone.body(images.tensors))
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode

    shares = [size / whole for size, whole in zip(images.image_sizes[0], images.tensors.shape[-2:], strict=True)]

    def cut(m: Tensor) -> Tensor:
        height, width = (math.ceil(side * share) for side, share in zip(m.shape[-2:], shares, strict=True))
        return m[0, :, :height, :width].float().cpu()

    return Inspection(
        laterals=[cut(seen[part]) for part in [*neck.lateral, neck.top]],
        merged={name: cut(m) for name, m in levels.items()},
        offsets={i: cut(_in_pixels(steps[i], seen[head])) for i, head in offset_heads.items()},
        weights={i: cut(seen[head])[0] for i, head in weight_heads.items()},
        gates={i: seen[r.gate][0, :, 0, 0].float().cpu() for i, r in refinements.items()},
    )


def _part(step: nn.Module, name: str) -> nn.Module | None:
    part = getattr(step, name, None)
    return part if isinstance(part, nn.Module) else None


def _refinement(step: nn.Module) -> ChannelRefinement | None:
    return next((module for module in step.modules() if isinstance(module, ChannelRefinement)), None)


def _in_pixels(step: nn.Module, offset: Tensor) -> Tensor:
    """Turn offsets (N, 2, H, W) of ``step`` into pixels of the finer map."""
    if step.warp is warp_released:
        return offset / 2
    if step.warp is not warp:
        raise UserError(f"{type(step).__name__} reads with a warp of your own: the unit of its offset is not known.")
    height, width = offset.shape[-2:]
    return offset * offset.new_tensor([width, height])[:, None, None] / (height + width)
