"""Convolutions padded as TensorFlow does, in a form that graphs of any image size can hold."""

import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn


class SameConv2d(nn.Conv2d):
    """timm's ``Conv2dSame`` with the same numbers: pads to ceil(size / stride), the odd pixel right and below.

    timm rounds a quotient up, which a traced graph has to reason about at run time; a remainder is known as soon as
    the stride divides the size, as it does for images padded to multiples of 32.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C, H, W)."""
        height, width = (
            max((kernel - 1) * dilation + 1 - (size % stride or stride), 0)
            for size, kernel, stride, dilation in zip(
                x.shape[-2:], self.kernel_size, self.stride, self.dilation, strict=True
            )
        )
        x = F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
        return self._conv_forward(x, self.weight, self.bias)


def use_same_conv2d(model: nn.Module) -> None:
    """Put ``SameConv2d`` in the place of every ``Conv2dSame`` of ``model``; weights and their names stay."""
    for parent in model.modules():
        for name, child in parent.named_children():
            if isinstance(child, Conv2dSame):
                new = SameConv2d(
                    child.in_channels,
                    child.out_channels,
                    child.kernel_size,  # type: ignore[arg-type]  # typed as a tuple of any length
                    child.stride,  # type: ignore[arg-type]
                    dilation=child.dilation,  # type: ignore[arg-type]
                    groups=child.groups,
                    bias=child.bias is not None,
                    device="meta",
                )
                new.weight, new.bias = child.weight, child.bias
                setattr(parent, name, new)
