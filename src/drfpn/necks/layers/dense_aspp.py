"""DenseASPP (Yang et al., CVPR 2018) as the context module on C5, a row of Table 7."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class DenseASPP(nn.Module):
    """Densely connected dilated convolutions on C5, in place of FPN's 1x1 convolution.

    Each branch (1x1, ReLU, 3x3 dilated, ReLU) reads C5 and the outputs of all branches before it; a 1x1 convolution
    merges the branches. A branch has twice the neck's width inside and the neck's width at its end, which gives exactly
    the 60.05 M parameters of Table 7. There is no norm, as in the rest of the neck.

    Initialization: Kaiming normal, as a ReLU follows each convolution but the last.

    Args:
        in_channels: channels of the coarsest backbone map.
        out_channels: width of the neck.
        dilations: dilation of the 3x3 convolution of each branch.
    """

    def __init__(self, in_channels: int, out_channels: int, dilations: Sequence[int] = (3, 6, 12, 18, 24)) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(in_channels + i * out_channels, 2 * out_channels, 1),
                nn.ReLU(),
                nn.Conv2d(2 * out_channels, out_channels, 3, padding=dilation, dilation=dilation),
                nn.ReLU(),
            )
            for i, dilation in enumerate(dilations)
        )
        self.merge = nn.Conv2d(len(dilations) * out_channels, out_channels, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # typed as optional

    def forward(self, c: Tensor) -> Tensor:
        """Return the lateral (N, out_channels, H, W) of C5, ``c`` (N, in_channels, H, W)."""
        maps = [c]
        for branch in self.branches:
            maps.append(branch(torch.cat(maps, dim=1)))
        return self.merge(torch.cat(maps[1:], dim=1))
