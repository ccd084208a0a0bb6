"""FPN with deformable convolutions on its levels ("FPN w/ DCN" of Table 4)."""

from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.ops import DeformConv2d
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.necks.base import StepNeck
from drfpn.necks.fpn import NearestAdd
from drfpn.ops import deform_conv

OFFSET_UNIT = 0.1
"""Pixels that one of the numbers predicted stands for, see :func:`convolve`."""


class DeformableConv(nn.Module):
    """A 3x3 convolution that reads each of its nine points where it learns to (DCN; Dai et al., ICCV 2017).

    The offsets begin at zero, so it begins as a plain convolution.

    Args:
        channels: of the map that comes in and of the one that leaves.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.offset = nn.Conv2d(channels, 2 * 9, 3, padding=1)  # (y, x) of each point
        self.conv = DeformConv2d(channels, channels, 3, padding=1)
        nn.init.kaiming_uniform_(self.conv.weight, a=1)
        for zero in (self.conv.bias, self.offset.weight, self.offset.bias):
            nn.init.zeros_(zero)  # type: ignore[arg-type]  # a bias is typed as optional

    def forward(self, m: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        return convolve(self.conv, m, self.offset(m))


def convolve(conv: nn.Conv2d | DeformConv2d, m: Tensor, predicted: Tensor, mask: Tensor | None = None) -> Tensor:
    """Convolve ``m`` at points moved by what was predicted (y, x) and weighed by ``mask``; what is NaN gives NaN.

    Offsets are predicted in tenths of a pixel, which has the effect of a hundredth of the learning rate: on maps of a
    backbone with linear outputs (EfficientNet's have a standard deviation of 7) they would else be at hundreds or
    thousands of pixels within an epoch, from where there is no way back.
    """
    offset = OFFSET_UNIT * predicted
    where = offset.nan_to_num()  # the operator leaves its memory at a position that is no number
    return deform_conv(conv, m, where, mask) + (offset - where).sum(dim=1, keepdim=True)  # yet it must be seen


class DeformableFPN(StepNeck):
    """FPN whose 3x3 convolution on each level is deformable.

    Args: as :class:`drfpn.FPN`.
    """

    def __init__(
        self, in_channels: Sequence[int], out_channels: int = 256, extra_blocks: ExtraFPNBlock | None = None
    ) -> None:
        super().__init__(
            in_channels, out_channels, extra_blocks, top_down=lambda _: NearestAdd(), smooth=DeformableConv
        )
