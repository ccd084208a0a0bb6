"""Stands in for ``mmcv._ext``, the compiled operations of mmcv, which mmcv-lite lacks: NMS and RoIAlign only."""

import sys
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import nms


class CompiledOps(ModuleType):
    """All operations; those that are not defined raise when they are called."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*_: Any, **__: Any) -> None:
            raise NotImplementedError(f"mmcv._ext.{name}")

        return missing


def _nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    assert offset == 0
    return nms(boxes, scores, iou_threshold)


def _roi_align_forward(input, rois, output, argmax_y, argmax_x, **options) -> None:
    assert options["pool_mode"] == 1  # the average
    size = options["aligned_height"], options["aligned_width"]
    scale, ratio, aligned = options["spatial_scale"], options["sampling_ratio"], bool(options["aligned"])
    output.copy_(torch.ops.torchvision.roi_align(input, rois, scale, *size, ratio, aligned))


def _roi_align_backward(grad_output, rois, argmax_y, argmax_x, grad_input, **options) -> None:
    size = options["aligned_height"], options["aligned_width"]
    scale, ratio, aligned = options["spatial_scale"], options["sampling_ratio"], bool(options["aligned"])
    backward = torch.ops.torchvision._roi_align_backward
    grad_input.copy_(backward(grad_output, rois, scale, *size, *grad_input.shape, ratio, aligned))


def install() -> None:
    """Make ``import mmcv._ext`` return the operations of this file."""
    ops = CompiledOps("mmcv._ext")
    ops.nms, ops.roi_align_forward, ops.roi_align_backward = _nms, _roi_align_forward, _roi_align_backward
    sys.modules["mmcv._ext"] = ops
