"""The scale of a map, so that a prediction need not depend on it."""

from collections.abc import Sequence

import torch
from torch import Tensor

LEAST = 1e-6
"""Of a root mean square that something is divided by: maps of zeros stay zeros. Half precision can hold it."""


def root_mean_square(m: Tensor, dims: Sequence[int] = (1, 2, 3)) -> Tensor:
    """Return the root mean square of ``m`` (N, C, H, W) over ``dims``, each image on its own, ``LEAST`` at least.

    It is computed in float32 at least and returned in the dtype of ``m``, with size 1 along ``dims``.
    """
    kind = torch.promote_types(m.dtype, torch.float32)
    norm = torch.linalg.vector_norm(m, dim=tuple(dims), keepdim=True, dtype=kind)
    numbers = 1
    for dim in dims:
        numbers *= m.shape[dim]
    return (norm / numbers**0.5).clamp(min=LEAST).to(m.dtype)
