"""RoIAlign as one embedding bag."""

import torch
import torch.nn.functional as F
from torch import Tensor


def roi_align_by_embedding_bag(
    level: Tensor, rois: Tensor, output_size: int, spatial_scale: float, sampling_ratio: int
) -> Tensor:
    """Do what :func:`drfpn.ops.roi_align` does, for ``level`` in the dtype of ``rois``.

    The value of a cell is a weighted sum of pixels, the same for all channels.
    """
    _, channels, height, width = level.shape
    with torch.no_grad():
        x1, y1, x2, y2 = (rois[:, 1:] * spatial_scale).unbind(1)
        rows, row_weights = _points(y1, y2 - y1, output_size, sampling_ratio, height)
        columns, column_weights = _points(x1, x2 - x1, output_size, sampling_ratio, width)
        first = rois[:, 0].long()[:, None, None] * height
        index = (first + rows)[:, :, None, :, None] * width + columns[:, None, :, None, :]
        weights = row_weights[:, :, None, :, None] * column_weights[:, None, :, None, :]  # (R, size, size, 2 s, 2 s)
    pixels = level.permute(0, 2, 3, 1).reshape(-1, channels)
    terms = 4 * sampling_ratio**2
    summed = F.embedding_bag(
        index.reshape(-1, terms), pixels, per_sample_weights=weights.reshape(-1, terms), mode="sum"
    )
    return summed.view(-1, output_size, output_size, channels).permute(0, 3, 1, 2)


def _points(start: Tensor, length: Tensor, cells: int, points: int, pixels: int) -> tuple[Tensor, Tensor]:
    """Return the pixels that the cells of RoIs read along one axis, and their weights.

    Every point lies between two pixels, or at the border; one that is more than a pixel outside reads nothing.

    Args:
        start: (R,), coordinate of the first side of each RoI, in pixels of the level.
        length: (R,), extent of each RoI.
        cells: cells of a RoI.
        points: sampling points of a cell.
        pixels: size of the level.

    Returns:
        Indices and weights, (R, cells, 2 * points).
    """
    cell_size = length.clamp(min=1)[:, None, None] / cells
    cell = torch.arange(cells, dtype=start.dtype, device=start.device)[:, None]
    point = torch.arange(points, dtype=start.dtype, device=start.device) + 0.5
    at = (start[:, None, None] + cell * cell_size + point * cell_size / points).flatten(1).nan_to_num(-2.0)
    inside = (at >= -1) & (at <= pixels)
    at = at.clamp(0, pixels - 1)
    before = at.floor()
    fraction = at - before
    index = torch.stack([before, (before + 1).clamp(max=pixels - 1)], dim=-1).long()
    weights = torch.stack([1 - fraction, fraction], dim=-1) * (inside / points)[..., None]
    return index.view(-1, cells, 2 * points), weights.view(-1, cells, 2 * points)
