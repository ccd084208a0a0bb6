"""What flows inside of a detector's pyramid for one image."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from drfpn.necks.base import Neck
from drfpn.necks.drfpn.crb import ChannelRefinement
from drfpn.ops import layers_one_by_one, warp, warp_released
from drfpn.utils.errors import UserError


@dataclass(frozen=True)
class Inspection:
    """Inner values of a pyramid for one image, on the CPU, without the padding of the batch.

    A pair of neighbouring levels is named by the index of its finer one, 0 the finest. A step without an offset,
    weight or gate is missing in the dictionary.
    """

    levels: list[str]
    """Names of the backbone's levels by their stride: C2 is of stride 4."""
    laterals: list[Tensor]
    """(C, H, W) of each level before merging, finest first."""
    merged: list[Tensor]
    """(C, H, W) of each of these levels as it leaves the pyramid."""
    offsets: dict[int, Tensor]
    """(2, H, W), (x, y), of SRB, in pixels of the map that is added to."""
    weights: dict[int, Tensor]
    """(H, W): omega of SRB."""
    gates: dict[int, Tensor]
    """(C,): alpha of CRB."""


def inspect_pyramid(model: Any, image: Tensor) -> Inspection:
    """Run the backbone and the pyramid of ``model`` on one image and return what flows inside.

    Args:
        model: detector of this library, or one of torchvision with a pyramid of this library; its own transform
            decides the size. Its mode is put back afterwards.
        image: uint8 or 0..1, (3, H, W).

    Raises:
        UserError: a model without a pyramid of this library, or offsets in an unknown unit.
    """
    backbone: Any = getattr(model, "backbone", None)
    transform: Any = getattr(model, "transform", None)
    neck: Any = getattr(backbone, "neck", None) or getattr(backbone, "fpn", None)
    if not isinstance(neck, Neck):
        raise UserError(f"The model must have a pyramid of this library, but its neck is {type(neck).__name__}.")
    device = next(model.parameters()).device
    pixels = (image / 255 if image.dtype == torch.uint8 else image).to(device)

    seen: dict[nn.Module, Tensor] = {}
    steps = [(i, step) for path in (neck.top_down, neck.bottom_up) for i, step in enumerate(getattr(path, "steps", []))]
    spatial = {i: module for i, step in steps for module in step.modules() if hasattr(module, "warp")}
    channel = {i: module for i, step in steps for module in step.modules() if isinstance(module, ChannelRefinement)}
    offsets = {i: block.offset for i, block in spatial.items() if hasattr(block, "offset")}
    weights = {i: block.weight for i, block in spatial.items() if hasattr(block, "weight")}
    parts: list[Any] = [*neck.lateral, neck.top, *offsets.values(), *weights.values()]
    parts += [block.gate for block in channel.values()]
    hooks = [part.register_forward_hook(lambda m, _, out: seen.__setitem__(m, out)) for part in parts]
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad(), layers_one_by_one():
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

    strides = [images.tensors.shape[-1] / seen[part].shape[-1] for part in [*neck.lateral, neck.top]]
    return Inspection(
        levels=[f"C{round(math.log2(stride))}" for stride in strides],
        laterals=[cut(seen[part]) for part in [*neck.lateral, neck.top]],
        merged=[cut(m) for m in list(levels.values())[: len(strides)]],
        offsets={i: cut(_in_pixels(spatial[i], seen[part])) for i, part in offsets.items()},
        weights={i: cut(seen[part])[0] for i, part in weights.items()},
        gates={i: seen[block.gate][0, :, 0, 0].float().cpu() for i, block in channel.items()},
    )


def _in_pixels(step: Any, offset: Tensor) -> Tensor:
    """Turn offsets (N, 2, H, W) of ``step`` into pixels of their own map."""
    if step.warp == warp_released:
        return offset / 2
    if step.warp != warp:
        raise UserError(f"{type(step).__name__} reads with a warp of your own: the unit of its offset is not known.")
    height, width = offset.shape[-2:]
    return offset * offset.new_tensor([width, height])[:, None, None] / (height + width)
