"""AFPN: Asymptotic Feature Pyramid Network (Yang et al., SMC 2023, arXiv:2306.15988)."""

from collections.abc import Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.necks.base import Neck, check_channels
from drfpn.necks.layers.norm import BatchNorm
from drfpn.ops import crop_like

MIN_CHANNELS = 8
"""Smallest number of channels of a level inside of the neck."""


def init_small(module: nn.Module) -> None:
    """Initialize all convolutions inside of ``module`` with Xavier normal (gain 0.02), BatchNorm's with N(1, 0.02).

    Biases are initialized with zero.

    Args:
        module: a layer, or a module that holds some.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.xavier_normal_(layer.weight, gain=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1, 0.02)


class ConvBNReLU(nn.Sequential):
    """A convolution without bias, BatchNorm and ReLU; the size stays, or is divided by ``stride``.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: side of the kernel.
        stride: 1, or the same as ``kernel_size``.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 1, stride: int = 1) -> None:
        padding = (kernel_size - stride) // 2
        conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        super().__init__(conv, BatchNorm(out_channels), nn.ReLU())


class Upsample(nn.Module):
    """Maps a coarser level to the channels (1x1 convolution) and the size (bilinear) of a finer one.

    Args:
        in_channels: channels of the coarser level.
        out_channels: channels of the finer level.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.project = ConvBNReLU(in_channels, out_channels)

    def forward(self, m: Tensor, reference: Tensor) -> Tensor:
        """Map ``m`` (N, in_channels, h, w) to (N, out_channels, H, W), the size of ``reference``."""
        return F.interpolate(self.project(m), size=reference.shape[-2:], mode="bilinear")


class Downsample(nn.Module):
    """Maps a finer level to the channels and the size of a coarser one, by a convolution as large as its stride.

    Args:
        in_channels: channels of the finer level.
        out_channels: channels of the coarser level.
        stride: stride and side of the kernel.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv = ConvBNReLU(in_channels, out_channels, stride, stride)
        self.padding = stride - 1

    def forward(self, m: Tensor, reference: Tensor) -> Tensor:
        """Map ``m`` (N, in_channels, H, W) to (N, out_channels, h, w), the size of ``reference``."""
        return crop_like(self.conv(F.pad(m, (0, self.padding, 0, self.padding))), reference)


class SameLevel(nn.Module):
    """Identity, used where ``Upsample`` or ``Downsample`` would map a level to itself."""

    def forward(self, m: Tensor, reference: Tensor) -> Tensor:
        """Return ``m``."""
        return m


class ASFF(nn.Module):
    """Adaptively spatial feature fusion (ASFF; Liu et al., 2019, arXiv:1911.09516), followed by a 3x3 convolution.

    Maps are added with weights that are predicted for each pixel and sum to one over the maps.

    Args:
        channels: channels of the maps.
        inputs: number of maps.
        features: channels of each map that the weights are predicted from.
    """

    def __init__(self, channels: int, inputs: int, features: int = 8) -> None:
        super().__init__()
        self.features = nn.ModuleList(ConvBNReLU(channels, features) for _ in range(inputs))
        self.weigh = nn.Conv2d(inputs * features, inputs, 1)
        self.smooth = ConvBNReLU(channels, channels, 3)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Fuse maps (N, C, H, W) into one of the same shape."""
        features = [conv(m) for conv, m in zip(self.features, maps, strict=True)]
        weights = self.weigh(torch.cat(features, dim=1)).softmax(dim=1)  # (N, inputs, H, W)
        # added one by one: stacking would change the memory format of channels_last maps
        weighted = [weight * m for weight, m in zip(weights.split(1, dim=1), maps, strict=True)]
        return self.smooth(reduce(torch.add, weighted))


class ResidualBlock(nn.Module):
    """ResNet's basic block, with biases: two 3x3 convolutions with BatchNorm and a shortcut.

    Args:
        channels: number of input and output channels.
    """

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


class AFPNStageLevel(nn.Module):
    """One output level of a stage: fuses all levels of the stage at the size of one of them.

    Args:
        channels: channels of the levels, finest first.
        target: index of the output level.
        blocks: number of residual blocks behind the fusion.
    """

    def __init__(self, channels: Sequence[int], target: int, blocks: int) -> None:
        super().__init__()
        self.resize = nn.ModuleList(_make_resize(channels, source, target) for source in range(len(channels)))
        self.fuse = ASFF(channels[target], len(channels))
        self.blocks = nn.Sequential(*(ResidualBlock(channels[target]) for _ in range(blocks)))

    def forward(self, levels: Sequence[Tensor], reference: Tensor) -> Tensor:
        """Fuse ``levels`` (N, channels[i], H, W), finest first, at the size of ``reference``."""
        return self.blocks(self.fuse([resize(m, reference) for resize, m in zip(self.resize, levels, strict=True)]))


class AFPNStage(nn.Module):
    """One stage: fuses the finest levels with one another and leaves the coarser ones unchanged.

    Args:
        channels: channels of the levels that are fused, finest first.
        blocks: number of residual blocks behind each fusion.
    """

    def __init__(self, channels: Sequence[int], blocks: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(AFPNStageLevel(channels, target, blocks) for target in range(len(channels)))

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """Map all levels of the neck, finest first, to the same shapes."""
        count = len(self.levels)
        fused = levels[:count]
        return [*(level(fused, m) for level, m in zip(self.levels, fused, strict=True)), *levels[count:]]


def _make_resize(channels: Sequence[int], source: int, target: int) -> nn.Module:
    """Make the module that maps level ``source`` to the channels and the size of level ``target``."""
    if source == target:
        return SameLevel()
    if source > target:
        return Upsample(channels[source], channels[target])
    return Downsample(channels[source], channels[target], stride=2 ** (target - source))


class AFPN(Neck):
    """Asymptotic Feature Pyramid Network: fuses the two finest levels first, then one more level at each stage.

    1x1 convolutions reduce each of the backbone's maps to an eighth of its channels. Behind the last stage a 1x1
    convolution brings each level to ``out_channels``.

    Convolutions are initialized with Xavier normal (gain 0.02) and BatchNorm's scales with N(1, 0.02), as in the
    authors' code. The smaller the weights before a norm, the larger is the relative change of an optimizer step: with
    Kaiming uniform, a neck of so many norms has hardly learned anything after hundreds of steps. Extra blocks have no
    norm, and their initialization is unchanged.

    Differs from the authors' code: biases are initialized with zero, and a level has at least 8 channels inside of the
    neck.

    Args:
        in_channels: channels of the backbone's maps, finest first.
        out_channels: channels of every output level.
        extra_blocks: torchvision's ``ExtraFPNBlock``, called with (levels, backbone maps, names); ``None`` for none.
        blocks: number of residual blocks of a level behind each stage.

    Raises:
        UsageError: channels of fewer than two maps.
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
        hidden = [max(channels // 8, MIN_CHANNELS) for channels in in_channels]
        laterals = [nn.Sequential(ConvBNReLU(c, n), ConvBNReLU(n, n)) for c, n in zip(in_channels, hidden, strict=True)]
        super().__init__(
            in_channels,
            out_channels,
            lateral=laterals,
            smooth=[ConvBNReLU(n, out_channels) for n in hidden],
            top_down=nn.Sequential(*(AFPNStage(hidden[:count], blocks) for count in range(2, len(hidden) + 1))),
            extra_blocks=extra_blocks,
        )
        for module in (self.lateral, self.top, self.smooth, self.top_down):
            init_small(module)
