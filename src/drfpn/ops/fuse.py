"""BatchNorm folded into the convolution before it, for inference."""

import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

Model = TypeVar("Model", bound=nn.Module)


def fuse(model: Model, *inputs: Any) -> Model:
    """Return a copy for inference, in which every BatchNorm is part of the convolution before it.

    Which one that is, is seen by running the copy once. The numbers are the same but for rounding.

    Args:
        model: a pyramid, a backbone or another module; of a detector, its ``backbone``.
        inputs: what to run it on.
    """
    fused = copy.deepcopy(model).eval()
    with torch.no_grad():
        for parent, name, norm, conv in _pairs(fused, inputs):
            conv.weight, conv.bias = fuse_conv_bn_weights(
                conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            )
            setattr(parent, name, getattr(norm, "act", None) or nn.Identity())  # some of timm's have an activation
    return fused.requires_grad_(False)


def _pairs(model: nn.Module, inputs: Any) -> list[tuple[nn.Module, str, Any, Any]]:
    """Return (parent, name of the norm in it, norm, convolution), where each of both runs once and no other norm reads.

    What a function reads between a convolution and its norm is not seen; no network does that.
    """
    made: dict[int, tuple[Any, Tensor, list[nn.Module]]] = {}
    """Of each output of a convolution: who made it, itself (or another would take over its id), who reads it."""
    runs: dict[nn.Module, int] = {}

    def watch(module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        runs[module] = runs.get(module, 0) + 1
        if id(given[0]) in made:
            made[id(given[0])][2].append(module)
        if isinstance(module, nn.Conv2d):
            made[id(output)] = (module, output, [])

    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d) or not any(m.children())]
    hooks = [layer.register_forward_hook(watch) for layer in layers]
    try:
        with torch.no_grad():
            model(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    places = {norm: (parent, name) for parent in model.modules() for name, norm in parent.named_children()}
    return [
        (*places[norm], norm, conv)
        for conv, _, readers in made.values()
        for norm in readers
        if isinstance(norm, nn.BatchNorm2d) and len(readers) == 1 and runs[conv] == runs[norm] == 1
    ]
