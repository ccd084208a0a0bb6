"""Pure functions on tensors: sampling positions, bilinear sampling, adaptive pooling, RoIAlign, choosing boxes."""

from drfpn.ops.align import roi_align
from drfpn.ops.deform import deform_conv
from drfpn.ops.fuse import fuse
from drfpn.ops.merging import add_warped
from drfpn.ops.normalize import root_mean_square
from drfpn.ops.pooling import adaptive_average_pool, adaptive_max_pool
from drfpn.ops.precision import full_precision
from drfpn.ops.resize import upsample_corners
from drfpn.ops.sampling import (
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
from drfpn.ops.select import NOTHING, suppress, suppress_batch, top
from drfpn.ops.taps import sum_taps, to_taps
from drfpn.ops.tracing import layers_one_by_one, may_compose, opaque

__all__ = [
    "NOTHING",
    "Warp",
    "adaptive_average_pool",
    "adaptive_max_pool",
    "add_warped",
    "at_least_float32",
    "corner_grid",
    "deform_conv",
    "full_precision",
    "fuse",
    "layers_one_by_one",
    "may_compose",
    "opaque",
    "pixel_grid",
    "roi_align",
    "root_mean_square",
    "sample",
    "sample_by_gathers",
    "sample_by_rows",
    "sum_taps",
    "suppress",
    "suppress_batch",
    "to_taps",
    "top",
    "upsample_corners",
    "warp",
    "warp_released",
]
