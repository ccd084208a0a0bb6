"""Spatial Refinement Block (SRB): the top-down step of DRFPN."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drfpn.ops import warp
from drfpn.pyramids.base import fit, init_convs


class SpatialRefinementBlock(nn.Module):
    r"""Adds a coarser map to a finer one at learned positions, with a learned weight (SRB, Eqs. 1 to 4).

    .. math::
        \mathrm{SRB}(f, c) = f + \omega \odot \mathrm{sample}(c, g + \delta) + \mathrm{up}(c)

    Both the offset :math:`\delta` and the weight :math:`\omega` are predicted from the two maps. The 3x3
    convolution of Eq. 4 follows in the pyramid, once on each level.

    Convention:
        - fine: (N, C, H, W); coarse: (N, C, h, w) of half its size, rounded up or down; result as fine;
        - offset: (N, 2, H, W), (x, y), in the unit of ``warp``; ``up`` is nearest.

    Differs from the paper: Eq. 1 has one 3x3 convolution for omega, here 1x1 + ReLU + 3x3 as in the release
    (Table 7's parameters fit only this).

    Starting values: the last convolutions of delta and omega are zero, so the block begins as FPN's step. Both
    learn all the same: omega's last convolution has a gradient at once, since ``sample`` is not zero, and delta
    and all below from the second step on, when omega is not zero any more. The projections begin at a tenth of
    Kaiming's size: a step of omega and delta grows with the square of what they read, and on the maps of a
    backbone with linear outputs (EfficientNet's have a standard deviation of 7) omega would else pass 5 within
    ten steps and throw the loss.

    Args:
        channels: width of both maps.
        warp: ``(coarse, offset) -> (N, C, H, W)``: unit of the offset, grid and padding.
    """

    def __init__(self, channels: int, warp: Callable[[Tensor, Tensor], Tensor] = warp) -> None:
        super().__init__()
        hidden = channels // 2
        self.warp = warp
        self.project_coarse = nn.Conv2d(channels, hidden, 1, bias=False)
        self.project_fine = nn.Conv2d(channels, hidden, 1, bias=False)
        self.upsample = nn.ConvTranspose2d(hidden, hidden, 3, stride=2, padding=1)
        self.offset = nn.Conv2d(2 * hidden, 2, 3, padding=1, bias=False)
        last = nn.Conv2d(hidden, 1, 3, padding=1)
        self.weight = nn.Sequential(nn.Conv2d(2 * hidden, hidden, 1, bias=False), nn.ReLU(), last)
        init_convs(self)
        for projection in (self.project_coarse, self.project_fine):
            projection.weight.data.mul_(0.1)
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(last.weight)

    def refine(self, fine: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor]:
        """Predict from both maps the offset (N, 2, H, W) and the weight (N, 1, H, W) (Eq. 1)."""
        # one zero row and column more, then cut: the size of fine, whether h was rounded up or down
        up = fit(self.upsample(F.pad(self.project_coarse(coarse), (0, 1, 0, 1))), fine)
        context = torch.cat([up, self.project_fine(fine)], dim=1)  # (N, C, H, W)
        return self.offset(context), self.weight(context)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Merge ``coarse`` (N, C, h, w) into ``fine`` (N, C, H, W)."""
        offset, weight = self.refine(fine, coarse)
        return fine + weight * self.warp(coarse, offset) + F.interpolate(coarse, size=fine.shape[-2:], mode="nearest")
