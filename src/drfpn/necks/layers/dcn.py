"""Deformable convolution with predicted offsets (DCN), shared by "FPN w/ DCN", FaPN and SEPC."""

from torch import Tensor, nn
from torchvision.ops import DeformConv2d

from drfpn.ops import deform_conv, propagate_nan, replace_nan

OFFSET_UNIT = 0.1
"""Pixels by which a sampling point moves for each unit of the prediction, see :func:`predicted_deform_conv`."""


def predicted_deform_conv(
    conv: nn.Conv2d | DeformConv2d, m: Tensor, prediction: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Convolve ``m`` at sampling points that are moved by ``OFFSET_UNIT * prediction`` pixels.

    Predictions in tenths of a pixel have the effect of a hundredth of the learning rate. Predicted in pixels, offsets
    on maps of a backbone with linear outputs (EfficientNet's have a standard deviation of 7) reach hundreds or
    thousands of pixels within an epoch, from where they do not return.

    Args:
        conv: its weight, bias, stride, padding (in pixels) and dilation are used.
        m: input (N, C, H, W).
        prediction: (N, 2 K G, h, w), (y, x) of each of the K points of the kernel, for G groups of channels.
        mask: modulation weights (N, K G, h, w) of the points (DCNv2); ``None`` for none.

    Returns:
        (N, out_channels, h, w), NaN where an offset is NaN.
    """
    offset = OFFSET_UNIT * prediction
    where = replace_nan(offset)  # the operator reads out of bounds at NaN coordinates
    return propagate_nan(deform_conv(conv, m, where, mask), offset, where, dim=1)


class DeformableConv(nn.Module):
    """A deformable 3x3 convolution (DCN; Dai et al., ICCV 2017, arXiv:1703.06211) that keeps size and channels.

    Offsets are initialized with zero, so that it starts as a plain 3x3 convolution.

    Args:
        channels: number of input and output channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.offset = nn.Conv2d(channels, 2 * 9, 3, padding=1)  # (y, x) of each sampling point
        self.conv = DeformConv2d(channels, channels, 3, padding=1)
        nn.init.kaiming_uniform_(self.conv.weight, a=1)
        for parameter in (self.conv.bias, self.offset.weight, self.offset.bias):
            nn.init.zeros_(parameter)  # type: ignore[arg-type]  # a bias is typed as optional

    def forward(self, m: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        return predicted_deform_conv(self.conv, m, self.offset(m))
