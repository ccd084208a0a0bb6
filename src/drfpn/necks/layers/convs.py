"""3x3 convolutions of necks and how convolutions are initialized."""

from torch import Tensor, nn


def init_convs(module: nn.Module) -> None:
    """Initialize all convolutions inside of ``module`` with Kaiming uniform (a = 1), their biases with zero.

    Args:
        module: a convolution, or a module that holds some.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_uniform_(layer.weight, a=1)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def init_zeros(conv: nn.Conv2d) -> None:
    """Set the weight and the bias of a convolution to zero.

    Args:
        conv: the convolution.
    """
    nn.init.zeros_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def conv3x3(channels: int) -> nn.Conv2d:
    """Make the 3x3 convolution that smooths a level, initialized by :func:`init_convs`.

    Args:
        channels: number of input and output channels.
    """
    conv = nn.Conv2d(channels, channels, 3, padding=1)
    init_convs(conv)
    return conv


class ResidualConv(nn.Module):
    """A 3x3 convolution with a shortcut around it, ``x + conv(x)``, initialized as the identity, bit for bit.

    It computes what a 3x3 convolution can compute. A Dirac kernel in place of the shortcut would give rounded values
    wherever the library does not convolve directly (Winograd, TF32).

    Args:
        channels: number of input and output channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        init_zeros(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        return self.conv(x) + x
