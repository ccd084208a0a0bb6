"""Parameters and multiply-adds of a detector."""

import copy
from collections.abc import Iterable
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
    ghost = copy.deepcopy(model).to("meta").eval()
    image = torch.empty(1, 3, _next_multiple(height), _next_multiple(width), device="meta")
    backbone: Any = ghost.backbone
    maps = backbone.body(image)
    neck_macs = _macs(backbone.neck, maps)
    macs = _macs(backbone.body, image) + neck_macs + _head_macs(ghost, list(backbone.neck(maps).values()))
    return Counts(
        params=_size(model.parameters()),
        trainable_params=_size(p for p in model.parameters() if p.requires_grad),
        neck_params=_size(backbone.neck.parameters()),
        macs=macs,
        neck_macs=neck_macs,
        height=height,
        width=width,
        frozen=_frozen(model),
    )


def _head_macs(ghost: Any, levels: list[Tensor]) -> int:
    if hasattr(ghost, "head"):
        return _macs(ghost.head, levels)
    stages = getattr(ghost.roi_heads, "stages", [ghost.roi_heads])
    macs = _macs(ghost.rpn.head, levels)
    for stage in stages:
        regions = levels[0].new_empty(PROPOSALS, levels[0].shape[1], *stage.box_roi_pool.output_size)
        macs += _macs(nn.Sequential(stage.box_head, stage.box_predictor), regions)
        if stage.has_mask():
            found = levels[0].new_empty(stage.detections_per_img, levels[0].shape[1], *stage.mask_roi_pool.output_size)
            macs += _macs(nn.Sequential(stage.mask_head, stage.mask_predictor), found)
    return macs


def _macs(module: nn.Module, *inputs: Any) -> int:
    with FlopCounterMode(display=False) as counter:
        module(*inputs)
    return counter.get_total_flops() // 2


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
