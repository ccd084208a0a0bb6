"""RoIAlign (He et al., Mask R-CNN, ICCV 2017), with a way of its own on CPUs."""

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

from drfpn.ops.dispatch import reads_rows


def roi_align(level: Tensor, regions: Tensor, size: int, scale: float, sampling_ratio: int) -> Tensor:
    """Average a map over the cells of a grid in each region, as ``torchvision.ops.roi_align(aligned=False)`` does.

    On a CPU a cell is a weighted sum of pixels of the map, which an embedding bag makes: with the channels of a pixel
    side by side in memory that takes a tenth of the time. So it is on CUDA where results must repeat. Regions have no
    gradient.

    Args:
        level: (N, C, H, W).
        regions: (R, 5): image, x1, y1, x2, y2 in pixels of the image, finite.
        size: cells a side.
        scale: pixels of the map in one of the image.
        sampling_ratio: points a side of each cell, at least 1.

    Returns:
        (R, C, size, size).
    """
    values = level.to(regions.dtype)
    if reads_rows(level.device):
        return _sum_rows(values, regions, size, scale, sampling_ratio)
    return torchvision.ops.roi_align(values, regions, size, scale, sampling_ratio)


def _sum_rows(level: Tensor, regions: Tensor, size: int, scale: float, sampling_ratio: int) -> Tensor:
    _, channels, height, width = level.shape
    with torch.no_grad():
        x1, y1, x2, y2 = (regions[:, 1:] * scale).unbind(1)
        rows, of_rows = _points(y1, y2 - y1, size, sampling_ratio, height)
        columns, of_columns = _points(x1, x2 - x1, size, sampling_ratio, width)
        first = regions[:, 0].long()[:, None, None] * height
        index = (first + rows)[:, :, None, :, None] * width + columns[:, None, :, None, :]
        share = of_rows[:, :, None, :, None] * of_columns[:, None, :, None, :]  # (R, size, size, 2 s, 2 s)
    pixels = level.permute(0, 2, 3, 1).reshape(-1, channels)
    each = 4 * sampling_ratio**2
    summed = F.embedding_bag(index.reshape(-1, each), pixels, per_sample_weights=share.reshape(-1, each), mode="sum")
    return summed.view(-1, size, size, channels).permute(0, 3, 1, 2)


def _points(start: Tensor, length: Tensor, size: int, each: int, pixels: int) -> tuple[Tensor, Tensor]:
    """Return what the cells of regions read along one axis, and how much of each: (R, size, 2 ``each``).

    Every point lies between two pixels, or at the border; one that is more than a pixel outside reads nothing.
    """
    cell = length.clamp(min=1)[:, None, None] / size
    cells = torch.arange(size, dtype=start.dtype, device=start.device)[:, None]
    points = torch.arange(each, dtype=start.dtype, device=start.device) + 0.5
    at = (start[:, None, None] + cells * cell + points * cell / each).flatten(1).nan_to_num(-2.0)
    inside = (at >= -1) & (at <= pixels)
    at = at.clamp(0, pixels - 1)
    before = at.floor()
    share = at - before
    both = torch.stack([before, (before + 1).clamp(max=pixels - 1)], dim=-1).long()
    shares = torch.stack([1 - share, share], dim=-1) * (inside / each)[..., None]
    return both.view(-1, size, 2 * each), shares.view(-1, size, 2 * each)
