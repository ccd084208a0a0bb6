"""Context modules: what may stand in place of the 1x1 convolution on the coarsest map."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drfpn.necks.base import init_convs, init_zeros
from drfpn.ops import adaptive_average_pool


class PyramidPoolingModule(nn.Module):
    """Joins a map with its own averages over a few grids (PPM; Zhao et al., PSPNet, CVPR 2017).

    The map is reduced to ``out_channels`` (1x1), averaged over 1x1, 2x2, 3x3 and 6x6 cells, each average passed
    through a 1x1 convolution and upsampled by nearest neighbours; all are concatenated and merged (1x1, ReLU).

    Starting values: in ``merge`` the reduced map's own share begins at He's scale for ``out_channels`` inputs and
    a ReLU, since averages of natural maps are small; shared out over all five, the level would leave at a third
    of the size that FPN's 1x1 convolution gives it.

    Args:
        in_channels: channels of the coarsest backbone map.
        out_channels: width of the pyramid.
        bins: cells a side, a branch each.
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
        """Turn C5 (N, in_channels, H, W) into the top lateral (N, out_channels, H, W)."""
        return F.relu(self.join(self.reduce(c)))

    def join(self, reduced: Tensor) -> Tensor:
        """Merge the reduced map (N, out_channels, H, W) with its averages, without the ReLU."""
        size = reduced.shape[-2:]
        pooled = [
            F.interpolate(conv(adaptive_average_pool(reduced, bins)), size=size, mode="nearest")
            for bins, conv in zip(self.bins, self.branches, strict=True)
        ]
        return self.merge(torch.cat([*pooled, reduced], dim=1))


class ResidualPyramidPooling(PyramidPoolingModule):
    """PPM added to the reduced map, without the ReLU: it starts as FPN's 1x1 convolution, bit for bit.

    A ReLU behind the sum would cut off what is negative in FPN's coarsest level, which is signed; one inside of the
    residual branch would be dead where the branch begins at zero. The parameters are those of
    :class:`PyramidPoolingModule`; ``reduce`` is FPN's convolution.

    Starting values: ``merge`` is zero. It has a gradient at once, the branches from the second step on.

    Args: as :class:`PyramidPoolingModule`.
    """

    def __init__(self, in_channels: int, out_channels: int, bins: Sequence[int] = (1, 2, 3, 6)) -> None:
        super().__init__(in_channels, out_channels, bins)
        init_zeros(self.merge)

    def forward(self, c: Tensor) -> Tensor:
        """Turn C5 (N, in_channels, H, W) into the top lateral (N, out_channels, H, W)."""
        reduced = self.reduce(c)
        return self.join(reduced) + reduced
