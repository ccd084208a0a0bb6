"""SimpleFPN: the simple feature pyramid of ViTDet, from one map of a plain ViT (Li et al., ECCV 2022)."""

from collections.abc import Sequence
from itertools import pairwise

from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.necks.base import Neck
from drfpn.necks.layers.convs import init_convs
from drfpn.utils.errors import UsageError


class SimpleFPN(Neck):
    """ViTDet's simple feature pyramid: each level is made from a map of stride 16, without paths between the levels.

    Strides 4 and 8 are made by transposed 2x2 convolutions, 16 is the map itself, 32 is made by max pooling, which
    rounds up where a side is odd. 1x1 and 3x3 convolutions follow, each with LayerNorm over channels.

    The coarsest level has stride 32: four input maps give P2 to P5, three give P3 to P5. They may be the same map, as
    :class:`drfpn.backbones.PlainBackbone` returns it, or those of several blocks of a ViT.

    Source: Exploring Plain Vision Transformer Backbones for Object Detection (arXiv:2203.16527).

    Args:
        in_channels: channels of the input maps, one for each level, finest first; all are the same.
        out_channels: channels of every output level.
        extra_blocks: torchvision's ``ExtraFPNBlock``, called with (levels, backbone maps, names); ``None`` for none.

    Raises:
        UsageError: not three or four maps, or channels that differ, as those of a ResNet do.
    """

    backbone_strides = (16, 16, 16, 16)

    def __init__(
        self, in_channels: Sequence[int], out_channels: int = 256, extra_blocks: ExtraFPNBlock | None = None
    ) -> None:
        if len(in_channels) not in (3, 4) or len(set(in_channels)) != 1 or min(in_channels) < 4:
            raise UsageError(
                "The neck simple_fpn makes three or four levels from maps of a plain backbone, all of the same width, "
                f"such as [768, 768, 768, 768], not from {list(in_channels)}: use fpn or another neck for these."
            )
        channels = in_channels[0]
        resizes = [upsample_4x(channels), upsample_2x(channels), nn.Identity(), nn.MaxPool2d(2, ceil_mode=True)]
        widths = [channels // 4, channels // 2, channels, channels]
        pairs = list(zip(resizes, widths, strict=True))[-len(in_channels) :]
        levels = [nn.Sequential(resize, *conv_layer_norm(width, out_channels, 1)) for resize, width in pairs]
        for level in levels:
            init_convs(level)
        super().__init__(
            in_channels,
            out_channels,
            lateral=levels,
            smooth=[conv_layer_norm(out_channels, out_channels, 3) for _ in in_channels],
            top_down=nn.Identity(),
            extra_blocks=extra_blocks,
        )

    def _out_strides(self, in_strides: list[int]) -> list[int]:
        stride = in_strides[0]
        return [stride // 4, stride // 2, stride, 2 * stride][-len(in_strides) :]

    def _check(self, names: list[str], c: list[Tensor]) -> None:
        self._check_channels(names, c)
        for (name, m), (next_name, next_map) in pairwise(zip(names, c, strict=True)):
            if m.shape != next_map.shape:
                raise UsageError(
                    f"Level '{next_name}' is {next_map.shape[-2]}x{next_map.shape[-1]} but must be as large as level "
                    f"'{name}' ({m.shape[-2]}x{m.shape[-1]}): simple_fpn takes maps of stride 16."
                )


def upsample_2x(channels: int) -> nn.Module:
    """Make a transposed convolution that maps (N, channels, H, W) to (N, channels / 2, 2 H, 2 W)."""
    return nn.ConvTranspose2d(channels, channels // 2, 2, stride=2)


def upsample_4x(channels: int) -> nn.Sequential:
    """Make two transposed convolutions that map (N, channels, H, W) to (N, channels / 4, 4 H, 4 W)."""
    return nn.Sequential(upsample_2x(channels), LayerNorm2d(channels // 2), nn.GELU(), upsample_2x(channels // 2))


def conv_layer_norm(in_channels: int, out_channels: int, kernel_size: int) -> nn.Sequential:
    """Make a convolution that keeps the size, followed by LayerNorm over channels.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: side of the kernel, odd.
    """
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
    layers = nn.Sequential(conv, LayerNorm2d(out_channels))
    init_convs(layers)
    return layers
