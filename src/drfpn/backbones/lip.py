"""LIP: ResNets whose pooling learns what matters (Local Importance-based Pooling; Gao et al., ICCV 2019)."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

LIP_BACKBONES = {"lip_resnet50": "resnet50", "lip_resnet101": "resnet101"}
"""Name -> timm's ResNet that is changed."""

LARGEST = 12.0
"""Of the logits: a pixel may weigh e^12 times another."""


def pool(x: Tensor, logits: Tensor) -> Tensor:
    r"""Average ``x`` (N, C, H, W) over 3x3 windows of stride 2, weighed by the exponential of ``logits``.

    .. math::
        \mathrm{avg}(x e^l) / \mathrm{avg}(e^l)

    Equal logits give average pooling that leaves out the border. Computed in float32 with exp(l - 12), the same ratio,
    since e^12 is more than half precision can hold.

    Returns:
        (N, C, ceil(H / 2), ceil(W / 2)) in the precision of ``x``.
    """
    weight = (logits.float() - LARGEST).exp()
    mean = F.avg_pool2d(x.float() * weight, 3, 2, 1) / F.avg_pool2d(weight, 3, 2, 1)
    return mean.to(x.dtype)


class Logits(nn.Sequential):
    """Gives the logits of a map in 0..12: convolution (zero at the start), InstanceNorm, sigmoid.

    Zero weights give equal logits, so that a net begins with average pooling.

    Args:
        in_channels: of what they are read from.
        out_channels: of the map that they weigh.
        kernel_size: of the convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
        nn.init.zeros_(conv.weight)
        super().__init__(conv, nn.InstanceNorm2d(out_channels, affine=True), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, out_channels, H, W) of ``x`` (N, in_channels, H, W)."""
        return LARGEST * super().forward(x)


class SimplifiedLIP(nn.Module):
    """Pools a map by logits of its own (3x3); in the place of the stem's max-pooling.

    Args:
        channels: of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.logits = Logits(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Turn (N, C, H, W) into (N, C, ceil(H / 2), ceil(W / 2))."""
        return pool(x, self.logits(x))


class LIPBottleneck(nn.Module):
    """ResNet's bottleneck of stride 2 with LIP in place of both strides, its logits from 128 channels of the input.

    The 3x3 convolution of stride 2 becomes LIP and a 1x1 convolution, the shortcut's 1x1 of stride 2 becomes LIP and
    a 1x1 of stride 1. Two heads on one trunk give the logits of the two.

    Args:
        block: timm's bottleneck of stride 2, whose other layers are taken over.
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        in_channels, planes = block.conv1.in_channels, block.conv1.out_channels
        self.trunk = nn.Sequential(
            nn.Conv2d(in_channels, 128, 1, bias=False),
            nn.InstanceNorm2d(128, affine=True),
            nn.ReLU(),
            nn.Conv2d(128, 128, 3, padding=1, bias=False),
            nn.InstanceNorm2d(128, affine=True),
            nn.ReLU(),
        )
        self.logits = Logits(128, planes, 1)
        self.shortcut_logits = Logits(128, in_channels, 1)
        self.conv1, self.bn1, self.act1 = block.conv1, block.bn1, block.act1
        self.conv2 = nn.Conv2d(planes, planes, 1, bias=False)
        self.bn2, self.act2 = block.bn2, block.act2
        self.conv3, self.bn3, self.act3 = block.conv3, block.bn3, block.act3
        shortcut, norm = block.downsample
        self.downsample = nn.Sequential(nn.Conv2d(in_channels, shortcut.out_channels, 1, bias=False), norm)
        for conv in (*self.trunk, self.conv2, self.downsample[0]):
            if isinstance(conv, nn.Conv2d):
                nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Turn (N, C, H, W) into (N, 2 C, ceil(H / 2), ceil(W / 2))."""
        seen = self.trunk(x)
        shortcut = self.downsample(pool(x, self.shortcut_logits(seen)))
        y = self.act1(self.bn1(self.conv1(x)))
        y = self.act2(self.bn2(self.conv2(pool(y, self.logits(seen)))))
        y = self.bn3(self.conv3(y))
        return self.act3(y + shortcut)


def use_lip(model: Any) -> None:
    """Put LIP in the place of all seven poolings of timm's ResNet with bottlenecks: the stem's and two in each stage.

    What stays keeps its names, so that a file of weights that fits says which are missing.
    """
    model.maxpool = SimplifiedLIP(model.conv1.out_channels)
    for stage in (model.layer2, model.layer3, model.layer4):
        stage[0] = LIPBottleneck(stage[0])
