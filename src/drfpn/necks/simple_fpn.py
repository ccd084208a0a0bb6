"""Simple feature pyramid: all levels from the one map of a plain ViT (ViTDet; Li et al., ECCV 2022)."""

from collections.abc import Sequence
from itertools import pairwise

from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.necks.base import Neck, init_convs
from drfpn.utils.errors import UserError


class SimpleFPN(Neck):
    """Makes each level of its own from a map of stride 16, without any path between the levels.

    Strides 4 and 8 by transposed 2x2 convolutions, 16 as it is, 32 by max-pooling, which rounds up where a side is
    odd. Then 1x1 and 3x3 convolutions, each with LayerNorm over channels.

    The coarsest level always has stride 32: four maps in give P2 to P5, three P3 to P5. They may be the same map, as
    :class:`drfpn.backbones.PlainBackbone` hands it on, or those of several blocks of a ViT.

    Args:
        in_channels: channels of the maps, one for each level, finest first; all are the same.
        out_channels: channels of every level that leaves.
        extra_blocks: torchvision's ``ExtraFPNBlock``.

    Raises:
        UserError: channels that differ, as those of a ResNet do, or not three or four.
    """

    plain = True

    def __init__(
        self, in_channels: Sequence[int], out_channels: int = 256, extra_blocks: ExtraFPNBlock | None = None
    ) -> None:
        if len(in_channels) not in (3, 4) or len(set(in_channels)) != 1 or min(in_channels) < 4:
            raise UserError(
                "The pyramid simple_fpn makes three or four levels from maps of a plain backbone, of one width, such "
                f"as [768, 768, 768, 768], not from {list(in_channels)}: for these take fpn or another pyramid."
            )
        channels = in_channels[0]
        resized = [quadrupled(channels), doubled(channels), nn.Identity(), nn.MaxPool2d(2, ceil_mode=True)]
        widths = [channels // 4, channels // 2, channels, channels]
        sizes = list(zip(resized, widths, strict=True))[-len(in_channels) :]
        levels = [nn.Sequential(resize, *convolution(width, out_channels, 1)) for resize, width in sizes]
        for level in levels:
            init_convs(level)
        super().__init__(
            in_channels,
            out_channels,
            lateral=levels,
            smooth=[convolution(out_channels, out_channels, 3) for _ in in_channels],
            top_down=nn.Identity(),
            extra_blocks=extra_blocks,
        )

    def _check(self, names: list[str], c: list[Tensor]) -> None:
        self._check_channels(names, c)
        for (one, a), (other, b) in pairwise(zip(names, c, strict=True)):
            if a.shape != b.shape:
                raise UserError(
                    f"Level '{other}' is {b.shape[-2]}x{b.shape[-1]} but must be as large as level '{one}' "
                    f"({a.shape[-2]}x{a.shape[-1]}): simple_fpn takes maps of stride 16."
                )


def doubled(channels: int) -> nn.Module:
    """Make what doubles the sides of a map and halves its channels."""
    return nn.ConvTranspose2d(channels, channels // 2, 2, stride=2)


def quadrupled(channels: int) -> nn.Sequential:
    """Make what quadruples the sides of a map and leaves a quarter of its channels."""
    return nn.Sequential(doubled(channels), LayerNorm2d(channels // 2), nn.GELU(), doubled(channels // 2))


def convolution(in_channels: int, out_channels: int, kernel_size: int) -> nn.Sequential:
    """Make a convolution that keeps the size, with LayerNorm over channels."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
    layers = nn.Sequential(conv, LayerNorm2d(out_channels))
    init_convs(layers)
    return layers
