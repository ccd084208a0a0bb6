"""RoIAlign (He et al., Mask R-CNN, ICCV 2017)."""

import torchvision
from torch import Tensor

from drfpn.ops import dispatch
from drfpn.ops.cpu.roi_align import roi_align_by_embedding_bag


def roi_align(level: Tensor, rois: Tensor, output_size: int, spatial_scale: float, sampling_ratio: int) -> Tensor:
    """Average a feature map over a grid of cells in each RoI, as ``torchvision.ops.roi_align(aligned=False)`` does.

    On a CPU this takes a tenth of the time of torchvision's operator where the channels of a pixel are contiguous in
    memory. RoIs get no gradient.

    Args:
        level: (N, C, H, W).
        rois: (R, 5): index of the image, x1, y1, x2, y2 in pixels of the image, finite.
        output_size: cells along each side of a RoI.
        spatial_scale: 1 / stride of ``level``.
        sampling_ratio: sampling points along each side of a cell, at least 1.

    Returns:
        (R, C, output_size, output_size).
    """
    values = level.to(rois.dtype)
    implementation = (
        roi_align_by_embedding_bag if dispatch.use_embedding_bag(level.device) else torchvision.ops.roi_align
    )
    return implementation(values, rois, output_size, spatial_scale, sampling_ratio)
