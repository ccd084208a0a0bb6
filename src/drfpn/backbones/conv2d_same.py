"""Convolution with TensorFlow's "same" padding that can be exported for any image size."""

import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn


class SameConv2d(nn.Conv2d):
    """timm's ``Conv2dSame`` in a form for graphs of dynamic size: pads to ceil(size / stride), odd pixels at the end.

    timm computes the padding from a quotient that is rounded up, which a traced graph must evaluate symbolically. The
    remainder used here is known whenever the stride divides the size, as it does for images padded to multiples of 32.
    Numbers and parameters are the same.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, in_channels, H, W)."""
        height, width = (
            max((kernel - 1) * dilation + 1 - (size % stride or stride), 0)
            for size, kernel, stride, dilation in zip(
                x.shape[-2:], self.kernel_size, self.stride, self.dilation, strict=True
            )
        )
        x = F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
        return self._conv_forward(x, self.weight, self.bias)


def convert_same_conv2d(model: nn.Module) -> None:
    """Replace every ``Conv2dSame`` of a model by ``SameConv2d`` in place; parameters keep their names and values.

    Args:
        model: a timm model.
    """
    for parent in model.modules():
        for name, child in parent.named_children():
            if isinstance(child, Conv2dSame):
                conv = SameConv2d(
                    child.in_channels,
                    child.out_channels,
                    child.kernel_size,  # type: ignore[arg-type]  # typed as a tuple of any length
                    child.stride,  # type: ignore[arg-type]
                    dilation=child.dilation,  # type: ignore[arg-type]
                    groups=child.groups,
                    bias=child.bias is not None,
                    device="meta",
                )
                conv.weight, conv.bias = child.weight, child.bias
                setattr(parent, name, conv)
