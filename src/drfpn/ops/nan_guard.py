"""Guards against NaN coordinates, which cause out-of-bounds reads in the sampling operators of the libraries."""

from torch import Tensor


def replace_nan(coordinates: Tensor) -> Tensor:
    """Replace NaN by 0 and infinities by the largest finite numbers."""
    return coordinates.nan_to_num()


def propagate_nan(out: Tensor, coordinates: Tensor, replaced: Tensor, dim: int) -> Tensor:
    """Return ``out`` with NaN where coordinates are not finite, so that a diverging model is noticed.

    Args:
        out: (N, C, H, W), sampled at ``replaced``.
        coordinates: (N, ..., H, W) or (N, H, W, ...).
        replaced: the same, by :func:`replace_nan`.
        dim: dimension of ``coordinates`` that holds the coordinates of a pixel.
    """
    return out + (coordinates - replaced).sum(dim=dim).unsqueeze(1)
