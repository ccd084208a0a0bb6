"""Pure functions on tensors: sampling positions, bilinear sampling, adaptive pooling."""

from drfpn.ops.pooling import adaptive_average_pool
from drfpn.ops.sampling import corner_grid, pixel_grid, sample, sample_by_gathers, warp, warp_released

__all__ = [
    "adaptive_average_pool",
    "corner_grid",
    "pixel_grid",
    "sample",
    "sample_by_gathers",
    "warp",
    "warp_released",
]
