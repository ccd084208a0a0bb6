"""PConv and SEPC: FPN with scale-equalizing pyramid convolutions (Wang et al., CVPR 2020, arXiv:2005.03101)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.necks.base import StepNeck
from drfpn.necks.layers.dcn import predicted_deform_conv
from drfpn.necks.layers.fusion import NearestAdd
from drfpn.ops import at_least_float32, crop_like, full_precision, upsample_corners
from drfpn.utils.errors import UsageError


class LevelConv(nn.Conv2d):
    """A 3x3 convolution that all levels share.

    Weights are initialized with N(0, 0.01) at 256 channels, as in the authors' code. At C channels the standard
    deviation is larger by sqrt(256 / C): a narrow neck would otherwise output a thousandth of its input.

    Args:
        channels: number of input and output channels.
        stride: 2 to map a level to the size of the next coarser one.
    """

    def __init__(self, channels: int, stride: int = 1) -> None:
        super().__init__(channels, channels, 3, stride=stride, padding=1)
        nn.init.normal_(self.weight, std=0.01 * (256 / channels) ** 0.5)
        nn.init.zeros_(self.bias)  # type: ignore[arg-type]  # typed as optional

    def forward_level(self, m: Tensor, level: int) -> Tensor:
        """Convolve a map for an output level.

        Args:
            m: (N, C, H, W).
            level: index of the output level, 0 for the finest.
        """
        return self(m)


class DeformableLevelConv(LevelConv):
    """A ``LevelConv`` that is deformable (DCN) for all output levels but the finest.

    Offsets are initialized with zero, so that it starts as a ``LevelConv``. They are predicted in tenths of a pixel,
    the authors' in pixels; see :func:`drfpn.necks.layers.dcn.predicted_deform_conv`.

    Args:
        channels: number of input and output channels.
        stride: 2 to map a level to the size of the next coarser one.
    """

    def __init__(self, channels: int, stride: int = 1) -> None:
        super().__init__(channels, stride)
        self.offset = nn.Conv2d(channels, 2 * 9, 3, stride=stride, padding=1)  # (y, x) of each sampling point
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)  # type: ignore[arg-type]

    def forward_level(self, m: Tensor, level: int) -> Tensor:
        """Convolve a map for an output level.

        Args:
            m: (N, C, H, W).
            level: index of the output level, 0 for the finest.
        """
        if level == 0:
            return self(m)
        m = at_least_float32(m)  # half precision would move the sampling points
        with full_precision(m.device):
            return predicted_deform_conv(self, m, self.offset(m))


class IntegratedBatchNorm(nn.BatchNorm2d):
    """Integrated BatchNorm (iBN): statistics are computed over all levels at once."""

    def forward(self, levels: list[Tensor]) -> list[Tensor]:  # type: ignore[override]
        """Normalize levels (N, C, H, W)."""
        sizes = [m.shape[-2:] for m in levels]
        joined = super().forward(torch.cat([m.flatten(2) for m in levels], dim=2)[:, :, None])
        parts = joined[:, :, 0].split([height * width for height, width in sizes], dim=2)
        return [part.unflatten(2, size) for part, size in zip(parts, sizes, strict=True)]


def _conv(channels: int, stride: int, deformable: bool) -> LevelConv:
    return (DeformableLevelConv if deformable else LevelConv)(channels, stride)


class PyramidConv(nn.Module):
    """Pyramid convolution (PConv): a convolution over space and scale, which reads each level and both its neighbors.

    It has three kernels, shared by all levels: one for the finer neighbor, with stride 2; one for the level; one for
    the coarser neighbor, whose result is upsampled bilinearly (corners aligned, as in the authors' code). ReLU follows
    their sum.

    Args:
        channels: width of the levels.
        norm: whether an integrated BatchNorm precedes the ReLU.
        deformable: whether the kernels are deformable for all levels but the finest.
    """

    def __init__(self, channels: int, *, norm: bool = False, deformable: bool = False) -> None:
        super().__init__()
        self.finer = _conv(channels, 2, deformable)
        self.same = _conv(channels, 1, deformable)
        self.coarser = _conv(channels, 1, deformable)
        self.norm = IntegratedBatchNorm(channels) if norm else nn.Identity()

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """Map levels (N, C, H, W), finest first, to the same shapes."""
        sums = []
        for i, m in enumerate(levels):
            y = self.same.forward_level(m, i)
            if i > 0:
                y = y + crop_like(self.finer.forward_level(levels[i - 1], i), m)
            if i + 1 < len(levels):
                y = y + upsample_corners(self.coarser.forward_level(levels[i + 1], i), m.shape[-2:])
            sums.append(y)
        return [F.relu(y) for y in self.norm(sums)]


class SharedLayer(nn.Module):
    """A 3x3 convolution and ReLU shared by all levels, which replaces a tower of a one-stage head in SEPC.

    Args:
        channels: width of the levels.
        norm: whether an integrated BatchNorm precedes the ReLU.
        deformable: whether the convolution is deformable for all levels but the finest.
    """

    def __init__(self, channels: int, *, norm: bool = False, deformable: bool = False) -> None:
        super().__init__()
        self.conv = _conv(channels, 1, deformable)
        self.norm = IntegratedBatchNorm(channels) if norm else nn.Identity()

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """Map levels (N, C, H, W), finest first, to the same shapes."""
        return [F.relu(y) for y in self.norm([self.conv.forward_level(m, i) for i, m in enumerate(levels)])]


class PConvFPN(StepNeck):
    """FPN followed by a stack of pyramid convolutions, which include the extra levels.

    Four of them on P2 to P6 cost five times the computation of FPN. On P3 to P7 they cost three quarters of RetinaNet's
    towers, which the paper removes in return (``towers="shared"`` of the one-stage detectors).

    Args:
        in_channels: channels of the backbone's maps, finest first.
        out_channels: channels of every output level.
        extra_blocks: torchvision's ``ExtraFPNBlock``, called with (levels, backbone maps, names); ``None`` for none.
        layers: number of pyramid convolutions.
        norm: whether each of them has an integrated BatchNorm.
        deformable: whether they are deformable for all levels but the finest.

    Raises:
        UsageError: channels of fewer than two maps, or fewer than one layer.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        extra_blocks: ExtraFPNBlock | None = None,
        *,
        layers: int = 4,
        norm: bool = False,
        deformable: bool = False,
    ) -> None:
        if layers < 1:
            raise UsageError(f"`layers`, the number of pyramid convolutions, must be at least 1, not {layers}.")
        stack = [PyramidConv(out_channels, norm=norm, deformable=deformable) for _ in range(layers)]
        super().__init__(
            in_channels, out_channels, extra_blocks, top_down=lambda _: NearestAdd(), refine=nn.Sequential(*stack)
        )


class SEPC(PConvFPN):
    """Scale-equalizing pyramid convolution: :class:`PConvFPN`, by default with integrated BatchNorm and deformable.

    One-stage detectors of this name also replace their towers by SEPC's layer (``towers="sepc"``).

    Args:
        in_channels: channels of the backbone's maps, finest first.
        out_channels: channels of every output level.
        extra_blocks: torchvision's ``ExtraFPNBlock``, called with (levels, backbone maps, names); ``None`` for none.
        layers: number of pyramid convolutions.
        norm: whether each of them has an integrated BatchNorm.
        deformable: whether they are deformable for all levels but the finest.

    Raises:
        UsageError: channels of fewer than two maps, or fewer than one layer.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        extra_blocks: ExtraFPNBlock | None = None,
        *,
        layers: int = 4,
        norm: bool = True,
        deformable: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, extra_blocks, layers=layers, norm=norm, deformable=deformable)
