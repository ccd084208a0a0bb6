"""Pure functions on tensors: grid sampling, adaptive pooling, RoIAlign, non-maximum suppression."""

from drfpn.ops.add_warped import add_warped
from drfpn.ops.cpu.taps import sum_taps, to_taps
from drfpn.ops.deform_conv import deform_conv
from drfpn.ops.dispatch import layers_one_by_one, may_compose, opaque
from drfpn.ops.fuse import fuse
from drfpn.ops.grid_sample import (
    Warp,
    at_least_float32,
    corner_grid,
    pixel_grid,
    sample,
    sample_by_gathers,
    sample_by_rows,
    warp,
    warp_released,
)
from drfpn.ops.nms import PADDING_SCORE, batched_padded_nms, padded_nms, padded_topk
from drfpn.ops.normalize import root_mean_square
from drfpn.ops.pooling import adaptive_average_pool, adaptive_max_pool
from drfpn.ops.precision import full_precision
from drfpn.ops.resize import upsample_corners
from drfpn.ops.roi_align import roi_align

__all__ = [
    "PADDING_SCORE",
    "Warp",
    "adaptive_average_pool",
    "adaptive_max_pool",
    "add_warped",
    "at_least_float32",
    "batched_padded_nms",
    "corner_grid",
    "deform_conv",
    "full_precision",
    "fuse",
    "layers_one_by_one",
    "may_compose",
    "opaque",
    "padded_nms",
    "padded_topk",
    "pixel_grid",
    "roi_align",
    "root_mean_square",
    "sample",
    "sample_by_gathers",
    "sample_by_rows",
    "sum_taps",
    "to_taps",
    "upsample_corners",
    "warp",
    "warp_released",
]
