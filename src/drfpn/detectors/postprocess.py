"""Post-processing that all detectors share: padded detections, box decoding and masks."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image


class PaddedDetections(NamedTuple):
    """Detections of N images, D for each, sorted by score and padded with entries of score ``PADDING_SCORE``."""

    boxes: Tensor
    """(N, D, 4) x1, y1, x2, y2 in pixels."""
    scores: Tensor
    """(N, D)"""
    labels: Tensor
    """(N, D) 1..K"""
    masks: Tensor | None = None
    """(N, D, M, M) probabilities inside each box."""


def apply_deltas(coder: Any, deltas: Tensor, boxes: Tensor) -> Tensor:
    """Apply deltas to boxes as ``BoxCoder.decode`` does, without constant tensors, which it copies to the device.

    Args:
        coder: torchvision's ``BoxCoder``.
        deltas: (..., 4) dx, dy, dw, dh.
        boxes: (..., 4) anchors or proposals, x1, y1, x2, y2.

    Returns:
        Boxes (..., 4), x1, y1, x2, y2.
    """
    x1, y1, x2, y2 = boxes.unbind(-1)
    dx, dy, dw, dh = (delta / weight for delta, weight in zip(deltas.unbind(-1), coder.weights, strict=True))
    width, height = x2 - x1, y2 - y1
    x, y = dx * width + (x1 + 0.5 * width), dy * height + (y1 + 0.5 * height)
    half_width = 0.5 * (dw.clamp(max=coder.bbox_xform_clip).exp() * width)
    half_height = 0.5 * (dh.clamp(max=coder.bbox_xform_clip).exp() * height)
    return torch.stack((x - half_width, y - half_height, x + half_width, y + half_height), dim=-1)


def permute_and_flatten(level: Tensor, channels: int) -> Tensor:
    """Turn the output of a head (N, A * channels, H, W) into (N, H * W * A, channels), in float32."""
    n, _, height, width = level.shape
    permute_and_flatten = level.view(n, -1, channels, height, width).permute(0, 3, 4, 1, 2)
    return permute_and_flatten.reshape(n, -1, channels).float()


def gather_rows(values: Tensor, index: Tensor) -> Tensor:
    """Return the entries of ``values`` (N, n, ...) at ``index`` (N, k), as (N, k, ...)."""
    trailing = values.shape[2:]
    return values.gather(1, index.view(*index.shape, *(1 for _ in trailing)).expand(*index.shape, *trailing))


def iter_masks(crops: Tensor, boxes: Tensor, size: Sequence[int]) -> Iterator[Tensor]:
    """Yield the binary mask (height, width) of each detection, true where the probability is at least 0.5.

    One at a time, since probabilities in the image's size for all detections may exhaust the memory.

    Args:
        crops: (D, 1, M, M), probabilities inside each box.
        boxes: (D, 4) in pixels of the image.
        size: height and width of the image.
    """
    for crop, box in zip(crops, boxes, strict=True):
        yield paste_masks_in_image(crop[None], box[None], size)[0, 0] >= 0.5


def paste_masks(crops: Tensor, boxes: Tensor, size: Sequence[int]) -> Tensor:
    """Return the masks of :func:`iter_masks` in one tensor (D, height, width)."""
    masks = boxes.new_zeros(len(boxes), *size, dtype=torch.bool)
    for out, mask in zip(masks, iter_masks(crops, boxes, size), strict=True):
        out[:] = mask
    return masks


def to_float(image: Tensor) -> Tensor:
    """Return an image, uint8 or float in [0, 1], as float in [0, 1]."""
    return image if image.is_floating_point() else image.float() / 255
