"""Pure functions on tensors: grid sampling, deformable convolution, RoIAlign, adaptive pooling, NMS."""

from drfpn.ops.add_warped import add_warped
from drfpn.ops.cpu.taps import kernel_to_taps, sum_taps
from drfpn.ops.deform_conv import deform_conv
from drfpn.ops.dispatch import call_every_layer, may_fuse_layers, unbacked_size
from drfpn.ops.fuse import fuse
from drfpn.ops.grid_sample import (
    Warp,
    at_least_float32,
    corner_grid,
    pixel_grid,
    sample,
    sample_by_embedding_bag,
    sample_by_gather,
    warp,
    warp_released,
)
from drfpn.ops.nan_guard import propagate_nan, replace_nan
from drfpn.ops.nms import PADDING_SCORE, batched_padded_nms, padded_nms, padded_topk
from drfpn.ops.normalize import root_mean_square
from drfpn.ops.pooling import adaptive_average_pool, adaptive_max_pool
from drfpn.ops.precision import full_precision
from drfpn.ops.resize import crop_like, pad_or_crop, upsample_corners
from drfpn.ops.roi_align import roi_align

__all__ = [
    "PADDING_SCORE",
    "Warp",
    "adaptive_average_pool",
    "adaptive_max_pool",
    "add_warped",
    "at_least_float32",
    "batched_padded_nms",
    "call_every_layer",
    "corner_grid",
    "crop_like",
    "deform_conv",
    "full_precision",
    "fuse",
    "kernel_to_taps",
    "may_fuse_layers",
    "pad_or_crop",
    "padded_nms",
    "padded_topk",
    "pixel_grid",
    "propagate_nan",
    "replace_nan",
    "roi_align",
    "root_mean_square",
    "sample",
    "sample_by_embedding_bag",
    "sample_by_gather",
    "sum_taps",
    "unbacked_size",
    "upsample_corners",
    "warp",
    "warp_released",
]
