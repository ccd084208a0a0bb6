"""Parameters and multiply-adds of a detector."""

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

PROPOSALS = 1000
"""Regions that the heads of a two-stage detector are counted for, as usual."""


class Counts(BaseModel):
    """Size and cost of a detector; one multiply-add is one multiplication with its addition."""

    params: int
    trainable_params: int
    neck_params: int
    macs: int
    """Of convolutions, linear layers and matrix products for one image; a transposed convolution counts what it
    multiplies, at the resolution it reads. RoIAlign, bilinear sampling and NMS are not counted."""
    neck_macs: int
    height: int
    width: int
    frozen: str
    """Which parameters do not learn, in words."""


def count(model: nn.Module, height: int = 800, width: int = 1280) -> Counts:
    """Count a detector that :func:`drfpn.build_detector` made, for one image of ``height`` x ``width``.

    Nothing is computed: shapes alone pass through a copy without storage.
    """
    body, neck, heads = _macs(model, height, width, _true)
    return Counts(
        params=_size(model.parameters()),
        trainable_params=_size(p for p in model.parameters() if p.requires_grad),
        neck_params=_size(model.get_submodule("backbone.neck").parameters()),
        macs=body + neck + heads,
        neck_macs=neck,
        height=height,
        width=width,
        frozen=_frozen(model),
    )


def published_macs(model: nn.Module, height: int = 800, width: int = 1280) -> int:
    """Count multiply-adds as the counter behind the paper's Table 7 did (mmdetection's of 2020).

    It takes a transposed convolution for a plain one at the resolution it writes, four times what it multiplies; and
    it adds biases, BatchNorm (2 an element), ReLU and pooling (1 an element).
    """
    return sum(_macs(model, height, width, _published))


Counter = Callable[[nn.Module], AbstractContextManager[list[int]]]
"""Watches a module while it runs; its multiply-adds are the sum of the list in the end."""


def _macs(model: nn.Module, height: int, width: int, counter: Counter) -> tuple[int, int, int]:
    """Return the multiply-adds of backbone, pyramid and heads."""
    ghost: Any = copy.deepcopy(model).to("meta").eval()
    image = torch.empty(1, 3, _next_multiple(height), _next_multiple(width), device="meta")

    def run(module: nn.Module, *inputs: Any) -> tuple[int, Any]:
        with counter(module) as counts:
            output = module(*inputs)
        return sum(counts), output

    def on_regions(pool: Any, regions: int, branch: nn.Module) -> int:
        crops = levels[0].new_empty(regions, levels[0].shape[1], *pool.output_size)
        selection = run(pool.select, crops.repeat(1, len(pool.strides), 1, 1))[0] if hasattr(pool, "select") else 0
        return selection + run(branch, crops)[0]

    body, maps = run(ghost.backbone.body, image)
    neck, named = run(ghost.backbone.neck, maps)
    levels = list(named.values())
    if hasattr(ghost, "head"):
        return body, neck, run(ghost.head, levels)[0]
    heads, _ = run(ghost.rpn.head, levels)
    for stage in getattr(ghost.roi_heads, "stages", [ghost.roi_heads]):
        heads += on_regions(stage.box_roi_pool, PROPOSALS, nn.Sequential(stage.box_head, stage.box_predictor))
        if stage.has_mask():
            branch = nn.Sequential(stage.mask_head, stage.mask_predictor)
            heads += on_regions(stage.mask_roi_pool, stage.detections_per_img, branch)
    return body, neck, heads


def _deformable_flops(input_shape: Any, weight_shape: Any, *_: Any, out_shape: Any, **__: Any) -> int:
    """Count the convolution alone, as a plain one; reading its points bilinearly comes on top."""
    outputs = out_shape[0] * out_shape[2] * out_shape[3]
    return int(2 * outputs * torch.Size(weight_shape).numel())


@contextmanager
def _true(_: nn.Module) -> Iterator[list[int]]:
    counts: list[int] = []
    operators = {torch.ops.torchvision.deform_conv2d: _deformable_flops}
    with FlopCounterMode(display=False, custom_mapping=operators) as counter:
        yield counts
    counts.append(counter.get_total_flops() // 2)


@contextmanager
def _published(module: nn.Module) -> Iterator[list[int]]:
    counts: list[int] = []

    def add(layer: nn.Module, inputs: Any, output: Any) -> None:
        counts.append(_published_layer(layer, inputs[0], output))

    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.BatchNorm2d, nn.GroupNorm, nn.ReLU, nn.MaxPool2d)
    hooks = [layer.register_forward_hook(add) for layer in module.modules() if isinstance(layer, kinds)]
    yield counts
    for hook in hooks:
        hook.remove()


def _published_layer(layer: nn.Module, given: Tensor, output: Tensor) -> int:
    if isinstance(layer, nn.Linear):
        return given.numel() * layer.out_features
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        weights = layer.weight.shape[2:].numel() * layer.in_channels // layer.groups
        return output.numel() * (weights + (layer.bias is not None))
    if isinstance(layer, nn.BatchNorm2d | nn.GroupNorm):
        return 2 * given.numel()
    return output.numel() if isinstance(layer, nn.ReLU) else given.numel()


def _next_multiple(pixels: int, of: int = 32) -> int:
    """Return the size that a batch is padded to."""
    return -(-pixels // of) * of


def _size(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _frozen(model: nn.Module) -> str:
    body: Any = model.get_submodule("backbone.body")
    stages = {-1: "nothing", 0: "the stem"}.get(body.frozen_stages, f"the stem and stages 1 to {body.frozen_stages}")
    stages = "the stem and stage 1" if body.frozen_stages == 1 else stages
    norms = "all BatchNorm statistics of the backbone" if body.norm_eval else "no BatchNorm statistics"
    return f"{stages}, and {norms} (scale and shift learn where the stage does)"
