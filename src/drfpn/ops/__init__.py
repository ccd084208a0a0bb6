"""Pure functions on tensors: sampling positions, bilinear sampling, adaptive pooling, choosing boxes."""

from drfpn.ops.pooling import adaptive_average_pool
from drfpn.ops.sampling import corner_grid, pixel_grid, sample, sample_by_gathers, warp, warp_released
from drfpn.ops.select import NOTHING, suppress, suppress_batch, top

__all__ = [
    "NOTHING",
    "adaptive_average_pool",
    "corner_grid",
    "pixel_grid",
    "sample",
    "sample_by_gathers",
    "suppress",
    "suppress_batch",
    "top",
    "warp",
    "warp_released",
]
