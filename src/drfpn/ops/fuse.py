"""Folding of BatchNorm into the convolution before it, for inference."""

import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

Model = TypeVar("Model", bound=nn.Module)


def fuse(model: Model, *inputs: Any) -> Model:
    """Return a copy of a model for inference whose BatchNorms are folded into the convolutions before them.

    The convolution before each BatchNorm is found by running the copy once. Results differ by rounding only.

    Args:
        model: a neck, a backbone or another module; of a detector, its ``backbone``.
        inputs: arguments of the model's forward pass.
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
    """Return the convolutions that can be fused with the BatchNorm behind them.

    Both run once, and no other layer reads the convolution's output. Functions between the two would not be noticed;
    no known network has any.

    Args:
        model: in evaluation mode.
        inputs: arguments of its forward pass.

    Returns:
        (parent of the norm, its name in it, norm, convolution) of each pair.
    """
    conv_outputs: dict[int, tuple[Any, Tensor, list[nn.Module]]] = {}
    """By id of each output of a convolution: the convolution, the output (so that its id stays taken), its readers."""
    runs: dict[nn.Module, int] = {}

    def record(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        runs[module] = runs.get(module, 0) + 1
        if id(args[0]) in conv_outputs:
            conv_outputs[id(args[0])][2].append(module)
        if isinstance(module, nn.Conv2d):
            conv_outputs[id(output)] = (module, output, [])

    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d) or not any(m.children())]
    hooks = [layer.register_forward_hook(record) for layer in layers]
    try:
        with torch.no_grad():
            model(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    parents = {child: (parent, name) for parent in model.modules() for name, child in parent.named_children()}
    return [
        (*parents[norm], norm, conv)
        for conv, _, readers in conv_outputs.values()
        for norm in readers
        if isinstance(norm, nn.BatchNorm2d) and len(readers) == 1 and runs[conv] == runs[norm] == 1
    ]
