"""Top-down fusion steps that several necks share: upsampling and addition."""

import torch.nn.functional as F
from torch import Tensor, nn

from drfpn.ops import pad_or_crop


class NearestAdd(nn.Module):
    """FPN's top-down step: nearest-neighbor upsampling of the coarser map and addition to the finer one."""

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Fuse ``coarse`` (N, C, h, w) into ``fine`` (N, C, H, W)."""
        return fine + F.interpolate(coarse, size=fine.shape[-2:], mode="nearest")


class UpsampledAdd(nn.Module):
    """Top-down step with a learned upsampler: ``fine + upsample(coarse)``.

    The upsampled map is cropped to the size of the finer one; where that is larger than 2 h or 2 w, the last row and
    column are repeated.

    Args:
        upsample: maps (N, C, h, w) to (N, C, 2 h, 2 w).
    """

    def __init__(self, upsample: nn.Module) -> None:
        super().__init__()
        self.upsample = upsample

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Fuse ``coarse`` (N, C, h, w) into ``fine`` (N, C, H, W)."""
        return fine + pad_or_crop(self.upsample(coarse), fine.shape[-2:])
