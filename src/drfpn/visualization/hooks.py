"""Intermediate tensors of a neck, captured by forward hooks: laterals, offsets, omega, gates and output levels."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from drfpn.detectors.base import CanDetect
from drfpn.necks.base import Neck
from drfpn.necks.drfpn.crb import ChannelRefinement
from drfpn.ops import call_every_layer, warp, warp_released
from drfpn.utils.errors import UserError


@dataclass(frozen=True)
class NeckTensors:
    """Intermediate tensors of a neck for one image, on the CPU, without the padding of the batch.

    Offsets, omega and gates are those of the step between two neighboring levels; the keys are the index of the finer
    one, 0 for the finest level. Steps without them have no entry.
    """

    levels: list[str]
    """Names of the levels by their strides: C2 has stride 4."""
    laterals: list[Tensor]
    """(C, H, W) of each level before fusion, finest first."""
    outputs: list[Tensor]
    """(C, H, W) of each of these levels at the output of the neck."""
    offsets: dict[int, Tensor]
    """(2, H, W), x and y, of SRB, in pixels of the finer map."""
    omegas: dict[int, Tensor]
    """(H, W), omega of SRB."""
    gates: dict[int, Tensor]
    """(C,), gates of CRB."""


def capture_neck_tensors(model: nn.Module | CanDetect, image: Tensor) -> NeckTensors:
    """Run the backbone and the neck of a detector on one image and capture the intermediate tensors of the neck.

    Args:
        model: detector of this library, or one of torchvision with a neck of this library; its own transform resizes
            the image. Its training mode is restored.
        image: (3, H, W), uint8 or float in [0, 1].

    Raises:
        UserError: the model has no neck of this library, or its offsets are in an unknown unit.
    """
    backbone: Any = getattr(model, "backbone", None)
    transform: Any = getattr(model, "transform", None)
    neck: Any = getattr(backbone, "neck", None) or getattr(backbone, "fpn", None)
    if not isinstance(model, nn.Module) or not isinstance(neck, Neck):
        raise UserError(f"The model must have a neck of this library, but its neck is {type(neck).__name__}.")
    device = next(model.parameters()).device
    pixels = (image / 255 if image.dtype == torch.uint8 else image).to(device)

    laterals = [*neck.lateral, neck.top]
    steps = [(i, step) for path in (neck.top_down, neck.bottom_up) for i, step in enumerate(getattr(path, "steps", []))]
    srbs = {i: module for i, step in steps for module in step.modules() if hasattr(module, "warp")}
    crbs = {i: module for i, step in steps for module in step.modules() if isinstance(module, ChannelRefinement)}
    offsets = {i: srb.offset for i, srb in srbs.items() if hasattr(srb, "offset")}
    omegas = {i: srb.weight for i, srb in srbs.items() if hasattr(srb, "weight")}
    modules: list[Any] = [*laterals, *offsets.values(), *omegas.values(), *(crb.gate for crb in crbs.values())]
    with _evaluation_mode(model), _capture(modules) as captured, torch.no_grad(), call_every_layer():
        images, _ = transform([pixels])
        maps = backbone.body(images.tensors)
        outputs = neck(maps)

    valid = [side / padded for side, padded in zip(images.image_sizes[0], images.tensors.shape[-2:], strict=True)]

    def crop(m: Tensor) -> Tensor:
        """Remove the padding of the batch."""
        height, width = (math.ceil(side * fraction) for side, fraction in zip(m.shape[-2:], valid, strict=True))
        return m[0, :, :height, :width].float().cpu()

    in_strides = {name: round(images.tensors.shape[-1] / m.shape[-1]) for name, m in maps.items()}
    levels = neck.out_levels(in_strides)[: len(maps)]  # without extra levels
    return NeckTensors(
        levels=[f"C{level.number}" for level in levels],
        laterals=[crop(captured[module]) for module in laterals],
        outputs=[crop(outputs[level.name]) for level in levels],
        offsets={i: crop(_in_pixels(srbs[i], captured[module])) for i, module in offsets.items()},
        omegas={i: crop(captured[module])[0] for i, module in omegas.items()},
        gates={i: captured[crb.gate][0, :, 0, 0].float().cpu() for i, crb in crbs.items()},
    )


@contextmanager
def _capture(modules: Sequence[nn.Module]) -> Iterator[dict[nn.Module, Tensor]]:
    """Yield a dictionary that receives the outputs of modules when they are called."""
    captured: dict[nn.Module, Tensor] = {}
    hooks = [module.register_forward_hook(lambda m, _, out: captured.__setitem__(m, out)) for module in modules]
    try:
        yield captured
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Set a model to evaluation mode, and restore the mode of each module at the end."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _in_pixels(srb: Any, offset: Tensor) -> Tensor:
    """Convert offsets (N, 2, H, W) of an SRB to pixels of their own map."""
    if srb.warp == warp_released:
        return offset / 2
    if srb.warp != warp:
        raise UserError(f"{type(srb).__name__} has a warp of its own, so the unit of its offset is not known.")
    height, width = offset.shape[-2:]
    return offset * offset.new_tensor([width, height])[:, None, None] / (height + width)
