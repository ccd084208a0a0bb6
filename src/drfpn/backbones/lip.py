"""LIP: ResNets with Local Importance-based Pooling (Gao et al., ICCV 2019, arXiv:1908.04156)."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

LIP_BACKBONES = {"lip_resnet50": "resnet50", "lip_resnet101": "resnet101"}
"""Name of a ResNet with LIP -> name of the timm model that is converted."""

MAX_LOGIT = 12.0
"""Upper bound of the logits: a pixel can have e^12 times the weight of another."""


def lip2d(x: Tensor, logits: Tensor) -> Tensor:
    r"""Pool a map with 3x3 windows of stride 2, weighted by the exponential of predicted logits.

    .. math::
        \mathrm{avg}(x e^l) / \mathrm{avg}(e^l)

    Equal logits give average pooling without the padding (``count_include_pad=False``). It is computed in float32 with
    exp(l - 12), which has the same ratio, since e^12 is out of the range of half precision.

    Args:
        x: (N, C, H, W).
        logits: (N, C, H, W), at most ``MAX_LOGIT``.

    Returns:
        (N, C, ceil(H / 2), ceil(W / 2)) in the dtype of ``x``.
    """
    weight = (logits.float() - MAX_LOGIT).exp()
    mean = F.avg_pool2d(x.float() * weight, 3, 2, 1) / F.avg_pool2d(weight, 3, 2, 1)
    return mean.to(x.dtype)


class LogitModule(nn.Sequential):
    """Logit module of LIP: convolution, InstanceNorm and sigmoid, scaled to 0..12.

    The convolution is initialized with zero: equal logits, so that LIP starts as average pooling.

    Args:
        in_channels: channels of the map that the logits are predicted from.
        out_channels: channels of the map that is pooled.
        kernel_size: side of the convolution's kernel, odd.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
        nn.init.zeros_(conv.weight)
        super().__init__(conv, nn.InstanceNorm2d(out_channels, affine=True), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to logits (N, out_channels, H, W)."""
        return MAX_LOGIT * super().forward(x)


class SimplifiedLIP(nn.Module):
    """Simplified LIP: pools a map with logits predicted from it by a 3x3 convolution; replaces the stem's max pooling.

    Args:
        channels: channels of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.logits = LogitModule(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, ceil(H / 2), ceil(W / 2))."""
        return lip2d(x, self.logits(x))


class LIPBottleneck(nn.Module):
    """ResNet's bottleneck of stride 2 with LIP in place of both strides (the paper's bottleneck-128).

    The 3x3 convolution of stride 2 is replaced by LIP and a 1x1 convolution, the shortcut's 1x1 convolution of stride 2
    by LIP and a 1x1 convolution of stride 1. Both logits are predicted from one trunk of 128 channels on the input.

    Args:
        block: timm's bottleneck of stride 2, whose other layers are reused.
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
        self.logits = LogitModule(128, planes, 1)
        self.shortcut_logits = LogitModule(128, in_channels, 1)
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
        """Map (N, C, H, W) to (N, 2 C, ceil(H / 2), ceil(W / 2))."""
        features = self.trunk(x)
        shortcut = self.downsample(lip2d(x, self.shortcut_logits(features)))
        y = self.act1(self.bn1(self.conv1(x)))
        y = self.act2(self.bn2(self.conv2(lip2d(y, self.logits(features)))))
        y = self.bn3(self.conv3(y))
        return self.act3(y + shortcut)


def convert_to_lip(model: Any) -> None:
    """Replace all seven poolings of a ResNet by LIP in place: the stem's and both of stages 2, 3 and 4.

    The other layers keep their names, so that a file with weights of the original ResNet is refused with the names
    that it lacks.

    Args:
        model: timm's ResNet with bottlenecks.
    """
    model.maxpool = SimplifiedLIP(model.conv1.out_channels)
    for stage in (model.layer2, model.layer3, model.layer4):
        stage[0] = LIPBottleneck(stage[0])
