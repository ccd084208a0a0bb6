"""Pyramid Pooling Module (PPM): DRFPN's context module on C5."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drfpn.necks.layers.convs import init_convs, init_zeros
from drfpn.ops import adaptive_average_pool


class PyramidPoolingModule(nn.Module):
    """Concatenates a map with its averages over several grids (PPM; Zhao et al., PSPNet, CVPR 2017).

    The map is reduced to ``out_channels`` (1x1) and averaged over 1x1, 2x2, 3x3 and 6x6 cells; each average passes a
    1x1 convolution and nearest-neighbor upsampling; all are concatenated and merged (1x1, ReLU).

    Initialization: the weights of ``merge`` for the reduced map are Kaiming normal for ``out_channels`` inputs and a
    ReLU, since averages of natural maps are small. Initialized for all five inputs, the level would start at a third of
    the scale that FPN's 1x1 convolution gives it.

    Args:
        in_channels: channels of the coarsest backbone map.
        out_channels: width of the neck.
        bins: cells along each side of the grids, one branch each.
    """

    def __init__(self, in_channels: int, out_channels: int, bins: Sequence[int] = (1, 2, 3, 6)) -> None:
        super().__init__()
        self.bins = tuple(bins)
        self.reduce = nn.Conv2d(in_channels, out_channels, 1)
        self.branches = nn.ModuleList(nn.Conv2d(out_channels, out_channels, 1, bias=False) for _ in bins)
        self.merge = nn.Conv2d((len(self.bins) + 1) * out_channels, out_channels, 1)
        init_convs(self)
        nn.init.kaiming_normal_(self.merge.weight.data[:, -out_channels:], nonlinearity="relu")

    def forward(self, c: Tensor) -> Tensor:
        """Return the lateral (N, out_channels, H, W) of C5, ``c`` (N, in_channels, H, W)."""
        return F.relu(self.pool_and_merge(self.reduce(c)))

    def pool_and_merge(self, reduced: Tensor) -> Tensor:
        """Merge the reduced map with its averages, without the ReLU.

        Args:
            reduced: (N, out_channels, H, W).

        Returns:
            (N, out_channels, H, W).
        """
        size = reduced.shape[-2:]
        pooled = [
            F.interpolate(conv(adaptive_average_pool(reduced, bins)), size=size, mode="nearest")
            for bins, conv in zip(self.bins, self.branches, strict=True)
        ]
        return self.merge(torch.cat([*pooled, reduced], dim=1))


class ResidualPyramidPooling(PyramidPoolingModule):
    """PPM added to the reduced map, without the ReLU: it starts as FPN's 1x1 convolution, bit for bit.

    A ReLU behind the sum would cut off the negative values of FPN's coarsest level, which is signed; one inside of the
    residual branch would be dead, since the branch is initialized with zero. The parameters are those of
    :class:`PyramidPoolingModule`; ``reduce`` is FPN's convolution.

    Initialization: ``merge`` is zero. It has a gradient immediately, the branches from the second step on.

    Args:
        in_channels: channels of the coarsest backbone map.
        out_channels: width of the neck.
        bins: cells along each side of the grids, one branch each.
    """

    def __init__(self, in_channels: int, out_channels: int, bins: Sequence[int] = (1, 2, 3, 6)) -> None:
        super().__init__(in_channels, out_channels, bins)
        init_zeros(self.merge)

    def forward(self, c: Tensor) -> Tensor:
        """Return the lateral (N, out_channels, H, W) of C5, ``c`` (N, in_channels, H, W)."""
        reduced = self.reduce(c)
        return self.pool_and_merge(reduced) + reduced
