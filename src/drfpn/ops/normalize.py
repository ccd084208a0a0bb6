"""Root mean square of a map, by which it is divided so that a prediction does not depend on its scale."""

from collections.abc import Sequence

import torch
from torch import Tensor

EPS = 1e-6
"""Smallest root mean square, so that a map of zeros stays zero when it is divided; representable in half precision."""


def root_mean_square(m: Tensor, dims: Sequence[int] = (1, 2, 3)) -> Tensor:
    """Return the root mean square of a map, at least ``EPS``.

    Args:
        m: (N, C, H, W).
        dims: dimensions that are averaged over; 0 is not among them.

    Returns:
        A tensor with size 1 along ``dims``, in the dtype of ``m``, computed in float32 at least.
    """
    dtype = torch.promote_types(m.dtype, torch.float32)
    norm = torch.linalg.vector_norm(m, dim=tuple(dims), keepdim=True, dtype=dtype)
    count = 1
    for dim in dims:
        count *= m.shape[dim]
    return (norm / count**0.5).clamp(min=EPS).to(m.dtype)
