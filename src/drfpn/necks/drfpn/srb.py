"""Spatial Refinement Block (SRB): the top-down step of DRFPN."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drfpn.necks.base import init_convs
from drfpn.necks.drfpn.guides import ConcatGuide, SpatialGuide
from drfpn.ops import Warp, add_warped, may_compose, sum_taps, to_taps, warp


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

    Starting values: the last convolutions of delta and omega are zero, so the block starts as FPN's step, bit for bit.
    Both learn all the same: omega's last convolution has a gradient at once, since ``sample`` is not zero, and delta
    and all below from the second step on, when omega is not zero any more. The projections begin at a tenth of
    Kaiming's size: a step of omega and delta grows with the square of what they read. On the maps of a backbone with
    linear outputs (EfficientNet's have a standard deviation of 7) that alone is not enough: without a ``bound``, omega
    can diverge. A ``guide`` with ``norm=over_rms`` reads maps without their scale.

    On a CPU the layers up to the ReLU are composed and not called; ``drfpn.ops.layers_one_by_one()`` calls them, for
    hooks.

    Args:
        channels: width of both maps.
        warp: how the coarser map is read: unit of the offset, grid and padding.
        guide: makes what delta and omega are predicted from.
        bound: maps omega as predicted to omega as used, such as ``nn.Tanh()``; ``None`` for no bound.
    """

    def __init__(
        self,
        channels: int,
        warp: Warp = warp,
        guide: Callable[[int], SpatialGuide] = ConcatGuide,
        bound: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.warp = warp
        self.guide = guide(channels)
        self.offset = offset_head(self.guide)
        self.weight = weight_head(self.guide, channels // 2, bound)

    def refine(self, fine: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor]:
        """Predict from both maps the offset (N, 2, H, W) and the weight (N, 1, H, W) (Eq. 1)."""
        if may_compose(fine.device):
            return self._refine_at_once(fine, coarse)
        context = self.guide(fine, coarse)
        return self.offset(context), self.weight(context)

    def _refine_at_once(self, fine: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor]:
        """Predict the same: all that is linear up to the ReLU is composed and read off the maps in one product."""
        weight: Any = self.weight
        reduce, _, last, bound = weight
        heads = torch.cat([reduce.weight.flatten(1), to_taps(self.offset.weight)])
        read = self.guide.read(fine, coarse, heads).permute(0, 2, 3, 1)  # (N, H, W, C / 2 + 18)
        hidden, taps = read.split([reduce.out_channels, 18], dim=-1)
        omega = F.relu(hidden, inplace=not torch.is_grad_enabled()) @ to_taps(last.weight).T  # (N, H, W, 9)
        return sum_taps(taps), bound(sum_taps(omega, last.bias))

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Merge ``coarse`` (N, C, h, w) into ``fine`` (N, C, H, W)."""
        offset, weight = self.refine(fine, coarse)
        return add_warped(fine, coarse, offset, weight, self.warp)


def offset_head(guide: SpatialGuide) -> nn.Conv2d:
    """Make what predicts delta (N, 2, H, W), zero at the start, from the guide's features (conv1 of Eq. 1)."""
    conv = nn.Conv2d(guide.channels, 2, 3, padding=1, bias=False)
    nn.init.zeros_(conv.weight)
    return conv


def weight_head(guide: SpatialGuide, hidden: int, bound: nn.Module | None = None) -> nn.Sequential:
    """Make what predicts omega (N, 1, H, W), zero at the start, from the guide's features (conv2 of Eq. 1)."""
    last = nn.Conv2d(hidden, 1, 3, padding=1)
    head = nn.Sequential(nn.Conv2d(guide.channels, hidden, 1, bias=False), nn.ReLU(), last, bound or nn.Identity())
    init_convs(head)
    nn.init.zeros_(last.weight)
    return head
