"""1x1 convolution with BatchNorm: the lateral of BiFPN and NAS-FPN."""

from torch import nn

from drfpn.necks.layers.convs import init_convs
from drfpn.necks.layers.norm import BatchNorm


def conv1x1_norm(in_channels: int, out_channels: int, *, bias: bool = False, eps: float = 1e-5) -> nn.Sequential:
    """Make a 1x1 convolution, initialized with Kaiming uniform, and a BatchNorm.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        bias: whether the convolution has a bias.
        eps: added to the variance by the BatchNorm.
    """
    layers = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, bias=bias), BatchNorm(out_channels, eps=eps))
    init_convs(layers)
    return layers
