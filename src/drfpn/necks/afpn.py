"""AFPN: levels that are joined from the finest on, one more at each stage (Yang et al., 2023, arXiv:2306.15988)."""

from collections.abc import Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.necks.base import Neck, check_channels, crop_like
from drfpn.necks.layers.norm import BatchNorm

LEAST = 8
"""Channels that a level has at least inside."""


def begin_small(module: nn.Module) -> None:
    """Start every convolution inside of ``module`` by Xavier's law (gain 0.02), every norm's scale at N(1, 0.02)."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.xavier_normal_(layer.weight, gain=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1, 0.02)


class ConvNormReLU(nn.Sequential):
    """A convolution without bias, BatchNorm and ReLU; the size stays, or is divided by ``stride``."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1) -> None:
        padding = (kernel - stride) // 2
        conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, bias=False)
        super().__init__(conv, BatchNorm(out_channels), nn.ReLU())


class Upsample(nn.Module):
    """Brings a coarser map to the channels (1x1) and the size (bilinear) of a finer one."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.project = ConvNormReLU(in_channels, out_channels)

    def forward(self, m: Tensor, like: Tensor) -> Tensor:
        """Map ``m`` (N, in_channels, h, w) to (N, out_channels, H, W) of ``like``."""
        return F.interpolate(self.project(m), size=like.shape[-2:], mode="bilinear")


class Downsample(nn.Module):
    """Brings a finer map to the channels and the size of a coarser one: ``stride`` x ``stride`` pixels make one."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv = ConvNormReLU(in_channels, out_channels, stride, stride)
        self.rest = stride - 1

    def forward(self, m: Tensor, like: Tensor) -> Tensor:
        """Map ``m`` (N, in_channels, h, w) to (N, out_channels, H, W) of ``like``."""
        return crop_like(self.conv(F.pad(m, (0, self.rest, 0, self.rest))), like)


class Keep(nn.Module):
    """Leaves a map of the level itself as it is."""

    def forward(self, m: Tensor, like: Tensor) -> Tensor:
        """Return ``m``."""
        return m


class AdaptiveFusion(nn.Module):
    """Joins maps of one size by weights of each pixel that sum to one (ASFF), then convolves them (3x3).

    Args:
        channels: of the maps.
        inputs: how many.
        features: channels of each map that the weights are predicted from.
    """

    def __init__(self, channels: int, inputs: int, features: int = 8) -> None:
        super().__init__()
        self.features = nn.ModuleList(ConvNormReLU(channels, features) for _ in range(inputs))
        self.weigh = nn.Conv2d(inputs * features, inputs, 1)
        self.smooth = ConvNormReLU(channels, channels, 3)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Join maps (N, C, H, W)."""
        features = [conv(m) for conv, m in zip(self.features, maps, strict=True)]
        weights = self.weigh(torch.cat(features, dim=1)).softmax(dim=1)  # (N, inputs, H, W)
        # added one by one: stacked, channels_last maps would lose their layout
        weighed = [weight * m for weight, m in zip(weights.split(1, dim=1), maps, strict=True)]
        return self.smooth(reduce(torch.add, weighed))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut past them, as in ResNet-18, but with biases."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            BatchNorm(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            BatchNorm(channels),
        )

    def forward(self, m: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        return F.relu(m + self.convs(m))


class StageLevel(nn.Module):
    """Gives one level what all levels of a stage hold.

    Args:
        channels: of these levels, finest first.
        target: which of them it is.
        blocks: residual blocks behind the fusion.
    """

    def __init__(self, channels: Sequence[int], target: int, blocks: int) -> None:
        super().__init__()
        self.resize = nn.ModuleList(_between(channels, source, target) for source in range(len(channels)))
        self.fuse = AdaptiveFusion(channels[target], len(channels))
        self.blocks = nn.Sequential(*(ResidualBlock(channels[target]) for _ in range(blocks)))

    def forward(self, levels: Sequence[Tensor], like: Tensor) -> Tensor:
        """Join ``levels`` at the size of ``like``."""
        return self.blocks(self.fuse([to(m, like) for to, m in zip(self.resize, levels, strict=True)]))


class Stage(nn.Module):
    """Gives each of the finest levels what all of them hold; coarser ones pass.

    Args:
        channels: of these levels, finest first.
        blocks: residual blocks behind each fusion.
    """

    def __init__(self, channels: Sequence[int], blocks: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(StageLevel(channels, target, blocks) for target in range(len(channels)))

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """Return all levels, finest first."""
        count = len(self.levels)
        joined = levels[:count]
        return [*(level(joined, m) for level, m in zip(self.levels, joined, strict=True)), *levels[count:]]


def _between(channels: Sequence[int], source: int, target: int) -> nn.Module:
    if source == target:
        return Keep()
    if source > target:
        return Upsample(channels[source], channels[target])
    return Downsample(channels[source], channels[target], stride=2 ** (target - source))


class AFPN(Neck):
    """Asymptotic Feature Pyramid Network: neighbours first, then levels further apart.

    Each map is reduced to an eighth of its channels. The first stage joins the two finest levels, each later one a
    level more; after that every level is brought to ``out_channels``.

    Convolutions begin small, by Xavier's law with gain 0.02, and BatchNorm's scales at N(1, 0.02), as in the authors'
    code: the smaller the weights in front of a norm, the more a step turns them, and with so many norms a pyramid that
    begins by Kaiming's law has hardly learned after hundreds of steps. Extra blocks have no norm and stay as they are.

    Differs from that code: biases begin at 0, and a level has at least 8 channels inside.

    Args:
        in_channels: channels of the backbone's maps, finest first.
        out_channels: channels of every level that leaves.
        extra_blocks: torchvision's ``ExtraFPNBlock``.
        blocks: residual blocks of a level behind each stage.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        extra_blocks: ExtraFPNBlock | None = None,
        *,
        blocks: int = 4,
    ) -> None:
        check_channels(in_channels)
        inside = [max(channels // 8, LEAST) for channels in in_channels]
        laterals = [
            nn.Sequential(ConvNormReLU(c, n), ConvNormReLU(n, n)) for c, n in zip(in_channels, inside, strict=True)
        ]
        super().__init__(
            in_channels,
            out_channels,
            lateral=laterals,
            smooth=[ConvNormReLU(n, out_channels) for n in inside],
            top_down=nn.Sequential(*(Stage(inside[:count], blocks) for count in range(2, len(inside) + 1))),
            extra_blocks=extra_blocks,
        )
        for part in (self.lateral, self.top, self.smooth, self.top_down):
            begin_small(part)
