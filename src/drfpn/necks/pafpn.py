"""PAFPN: FPN with a bottom-up path, mmdetection's form of PANet (Liu et al., CVPR 2018, arXiv:1803.01534)."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.necks.base import StepNeck
from drfpn.necks.layers.convs import ResidualConv, conv3x3, init_convs
from drfpn.necks.layers.fusion import NearestAdd
from drfpn.ops import crop_like


class StrideAdd(nn.Module):
    """PAFPN's bottom-up step: the coarser map plus the finer one through a 3x3 convolution of stride 2.

    Args:
        channels: width of both maps.
        init_scale: factor of the convolution's initial weights, which are Kaiming uniform.
    """

    def __init__(self, channels: int, init_scale: float = 1.0) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        init_convs(self)
        self.down.weight.data.mul_(init_scale)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Fuse ``fine`` (N, C, H, W) into ``coarse`` (N, C, h, w)."""
        return coarse + crop_like(self.down(fine), coarse)


class PAFPN(StepNeck):
    """Path Aggregation FPN: FPN and a bottom-up path of strided 3x3 convolutions, each followed by a 3x3 convolution.

    :class:`drfpn.necks.PANet` is the form of the paper's authors, with GroupNorm and ReLU.

    Args:
        in_channels: channels of the backbone's maps, finest first.
        out_channels: channels of every output level.
        extra_blocks: torchvision's ``ExtraFPNBlock``, called with (levels, backbone maps, names); ``None`` for none.
        residual: put a shortcut around the 3x3 convolution behind each bottom-up step and initialize these and the
            strided convolutions with zero. The neck then starts as an FPN with the same lateral and 3x3 convolutions,
            bit for bit.

    Raises:
        UsageError: channels of fewer than two maps.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        extra_blocks: ExtraFPNBlock | None = None,
        *,
        residual: bool = False,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            extra_blocks,
            top_down=lambda _: NearestAdd(),
            bottom_up=partial(StrideAdd, init_scale=0.0) if residual else StrideAdd,
            smooth_up=ResidualConv if residual else conv3x3,
        )
