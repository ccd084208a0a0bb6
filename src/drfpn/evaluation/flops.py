"""Parameters and multiply-adds (MACs, half the FLOPs) of a detector."""

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from drfpn.detectors.base import DetectionModel
from drfpn.detectors.roi_heads import RoIPool

PROPOSALS = 1000
"""Proposals for which the RoI heads of a two-stage detector are counted, the usual number."""


class ModelComplexity(BaseModel):
    """Parameters and multiply-adds of a detector; one multiply-add is one multiplication with its addition."""

    params: int
    trainable_params: int
    neck_params: int
    macs: int
    """Multiply-adds of convolutions, linear layers and matrix products for one image; a transposed convolution is
    counted at the resolution of its input. RoIAlign, bilinear sampling and NMS are not counted."""
    neck_macs: int
    height: int
    width: int
    frozen: str
    """Which parts of the backbone are frozen, in words."""


def model_complexity(model: DetectionModel, height: int = 800, width: int = 1280) -> ModelComplexity:
    """Count the parameters and multiply-adds of a detector for one image.

    Nothing is computed: a copy of the detector runs on the meta device.

    Args:
        model: made by :func:`drfpn.build_detector`.
        height: of the image, pixels.
        width: of the image, pixels.
    """
    body, neck, heads = _macs(model, height, width, _count_macs)
    return ModelComplexity(
        params=_numel(model.parameters()),
        trainable_params=_numel(p for p in model.parameters() if p.requires_grad),
        neck_params=_numel(model.backbone.neck.parameters()),
        macs=body + neck + heads,
        neck_macs=neck,
        height=height,
        width=width,
        frozen=_frozen(model),
    )


def published_macs(model: DetectionModel, height: int = 800, width: int = 1280) -> int:
    """Count multiply-adds as mmdetection's counter of 2020 did, which gave the numbers of the paper's Table 7.

    It counts a transposed convolution as a plain one at the resolution of its output, four times too many, and adds
    biases, BatchNorm (2 per element), ReLU and pooling (1 per element).

    Args:
        model: made by :func:`drfpn.build_detector`.
        height: of the image, pixels.
        width: of the image, pixels.
    """
    return sum(_macs(model, height, width, _count_published_macs))


Counter = Callable[[nn.Module], AbstractContextManager[list[int]]]
"""Makes a context in which a module is run; its multiply-adds are the sum of the list at the end."""


def _macs(model: DetectionModel, height: int, width: int, counter: Counter) -> tuple[int, int, int]:
    """Return the multiply-adds of backbone, neck and heads."""
    meta = copy.deepcopy(model).to("meta").eval()
    image = torch.empty(1, 3, _round_up(height), _round_up(width), device="meta")

    def run(module: nn.Module, *inputs: Any) -> tuple[int, Any]:
        with counter(module) as counts:
            output = module(*inputs)
        return sum(counts), output

    def on_rois(pool: RoIPool, rois: int, branch: nn.Module) -> int:
        pooled = levels[0].new_empty(rois, levels[0].shape[1], *pool.output_size)
        selection = run(pool.selector, pooled.repeat(1, len(pool.levels), 1, 1))[0] if pool.selector else 0
        return selection + run(branch, pooled)[0]

    body, maps = run(meta.backbone.body, image)
    neck, outputs = run(meta.backbone.neck, maps)
    levels = list(outputs.values())
    heads, _ = run(meta.dense_head, levels)
    for stage in meta.roi_stages:
        heads += on_rois(stage.box_roi_pool, PROPOSALS, nn.Sequential(stage.box_head, stage.box_predictor))
        if stage.has_mask():
            branch = nn.Sequential(stage.mask_head, stage.mask_predictor)
            heads += on_rois(stage.mask_roi_pool, stage.detections_per_img, branch)
    return body, neck, heads


def _deformable_flops(input_shape: Any, weight_shape: Any, *_: Any, out_shape: Any, **__: Any) -> int:
    """Count a deformable convolution as a plain one; its bilinear sampling is not counted."""
    outputs = out_shape[0] * out_shape[2] * out_shape[3]
    return int(2 * outputs * torch.Size(weight_shape).numel())


@contextmanager
def _count_macs(_: nn.Module) -> Iterator[list[int]]:
    counts: list[int] = []
    operators = {torch.ops.torchvision.deform_conv2d: _deformable_flops}
    with FlopCounterMode(display=False, custom_mapping=operators) as counter:
        yield counts
    counts.append(counter.get_total_flops() // 2)


@contextmanager
def _count_published_macs(module: nn.Module) -> Iterator[list[int]]:
    counts: list[int] = []

    def add(layer: nn.Module, inputs: Any, output: Any) -> None:
        counts.append(_published_macs_of_layer(layer, inputs[0], output))

    layer_types = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.BatchNorm2d, nn.GroupNorm, nn.ReLU, nn.MaxPool2d)
    hooks = [layer.register_forward_hook(add) for layer in module.modules() if isinstance(layer, layer_types)]
    yield counts
    for hook in hooks:
        hook.remove()


def _published_macs_of_layer(layer: nn.Module, x: Tensor, output: Tensor) -> int:
    if isinstance(layer, nn.Linear):
        return x.numel() * layer.out_features
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        weights = layer.weight.shape[2:].numel() * layer.in_channels // layer.groups
        return output.numel() * (weights + (layer.bias is not None))
    if isinstance(layer, nn.BatchNorm2d | nn.GroupNorm):
        return 2 * x.numel()
    return output.numel() if isinstance(layer, nn.ReLU) else x.numel()


def _round_up(pixels: int, multiple: int = 32) -> int:
    """Return the side to which a batch is padded."""
    return -(-pixels // multiple) * multiple


def _numel(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _frozen(model: DetectionModel) -> str:
    body = model.backbone.body
    stages = {-1: "nothing", 0: "the stem"}.get(body.frozen_stages, f"the stem and stages 1 to {body.frozen_stages}")
    stages = "the stem and stage 1" if body.frozen_stages == 1 else stages
    norms = "all BatchNorm statistics of the backbone" if body.norm_eval else "no BatchNorm statistics"
    return f"{stages}, and {norms} (scale and shift are trained where the stage is)"
