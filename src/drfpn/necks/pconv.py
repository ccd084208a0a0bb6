"""StepNeck convolutions: PConv and SEPC (Wang et al., CVPR 2020, arXiv:2005.03101)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.necks.base import StepNeck, crop_like
from drfpn.necks.fpn import NearestAdd
from drfpn.necks.fpn_dcn import convolve
from drfpn.ops import at_least_float32, full_precision, upsample_corners
from drfpn.utils.errors import UserError


class LevelConv(nn.Conv2d):
    """A 3x3 convolution that all levels share.

    Starting values: N(0, 0.01) at 256 channels, as in the release; wider by the root at fewer channels, or a narrow
    pyramid would hand on a thousandth of what it was given.

    Args:
        channels: of the map that comes in and of the one that leaves.
        stride: 2 where the result is of the next coarser level.
    """

    def __init__(self, channels: int, stride: int = 1) -> None:
        super().__init__(channels, channels, 3, stride=stride, padding=1)
        nn.init.normal_(self.weight, std=0.01 * (256 / channels) ** 0.5)
        nn.init.zeros_(self.bias)  # type: ignore[arg-type]  # typed as optional

    def at(self, level: int, m: Tensor) -> Tensor:
        """Map ``m`` (N, C, H, W) to what is added to a level, by its index, 0 the finest."""
        return self(m)


class DeformableLevelConv(LevelConv):
    """The same, but above the finest level each of the nine points is read where it learns to (DCN).

    So coarser levels may see as much as finer ones. The offsets begin at zero: it begins as ``LevelConv``. They are
    predicted in tenths of a pixel, the authors' in pixels; see :func:`drfpn.necks.fpn_dcn.convolve`.
    """

    def __init__(self, channels: int, stride: int = 1) -> None:
        super().__init__(channels, stride)
        self.offset = nn.Conv2d(channels, 2 * 9, 3, stride=stride, padding=1)  # (y, x) of each point
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)  # type: ignore[arg-type]

    def at(self, level: int, m: Tensor) -> Tensor:
        """Map ``m`` (N, C, H, W) to what is added to a level, by its index, 0 the finest."""
        if level == 0:
            return self(m)
        m = at_least_float32(m)  # half precision would move the points
        with full_precision(m.device):
            return convolve(self, m, self.offset(m))


class JointBatchNorm(nn.BatchNorm2d):
    """BatchNorm with statistics over all levels at once (integrated BatchNorm)."""

    def forward(self, levels: list[Tensor]) -> list[Tensor]:  # type: ignore[override]
        """Normalise levels (N, C, H, W)."""
        sizes = [m.shape[-2:] for m in levels]
        joined = super().forward(torch.cat([m.flatten(2) for m in levels], dim=2)[:, :, None])
        parts = joined[:, :, 0].split([height * width for height, width in sizes], dim=2)
        return [part.unflatten(2, size) for part, size in zip(parts, sizes, strict=True)]


def _conv(channels: int, stride: int, deformable: bool) -> LevelConv:
    return (DeformableLevelConv if deformable else LevelConv)(channels, stride)


class PyramidConv(nn.Module):
    """A convolution over space and levels (PConv): each level sees itself and both its neighbours, then ReLU.

    Three kernels, shared by all levels: of the finer neighbour with stride 2, of the level, of the coarser neighbour,
    whose result is upsampled bilinearly (corners aligned, as in the release).

    Args:
        channels: width of the levels.
        norm: BatchNorm over all levels before the ReLU.
        deformable: above the finest level.
    """

    def __init__(self, channels: int, *, norm: bool = False, deformable: bool = False) -> None:
        super().__init__()
        self.finer = _conv(channels, 2, deformable)
        self.same = _conv(channels, 1, deformable)
        self.coarser = _conv(channels, 1, deformable)
        self.norm = JointBatchNorm(channels) if norm else nn.Identity()

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """Map levels (N, C, H, W), finest first, to the same shapes."""
        sums = []
        for i, m in enumerate(levels):
            y = self.same.at(i, m)
            if i > 0:
                y = y + crop_like(self.finer.at(i, levels[i - 1]), m)
            if i + 1 < len(levels):
                y = y + upsample_corners(self.coarser.at(i, levels[i + 1]), m.shape[-2:])
            sums.append(y)
        return [F.relu(y) for y in self.norm(sums)]


class SharedLayer(nn.Module):
    """One 3x3 convolution and ReLU for all levels: what SEPC has in place of each tower of a head.

    Args: as :class:`PyramidConv`.
    """

    def __init__(self, channels: int, *, norm: bool = False, deformable: bool = False) -> None:
        super().__init__()
        self.conv = _conv(channels, 1, deformable)
        self.norm = JointBatchNorm(channels) if norm else nn.Identity()

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """Map levels (N, C, H, W), finest first, to the same shapes."""
        return [F.relu(y) for y in self.norm([self.conv.at(i, m) for i, m in enumerate(levels)])]


class PConvFPN(StepNeck):
    """FPN with a stack of pyramid convolutions behind it, over the extra levels too.

    Four of them on P2 to P6 cost five times what the whole of FPN costs. On P3 to P7 it is three quarters of what
    RetinaNet's towers cost, which the paper leaves out in return (``towers="shared"`` of the one-stage detectors).

    Args:
        in_channels: channels of the backbone's maps, finest first.
        out_channels: channels of every level that leaves.
        extra_blocks: torchvision's ``ExtraFPNBlock``.
        layers: how many pyramid convolutions.
        norm: BatchNorm over all levels in each.
        deformable: whether coarser levels are read at learned positions.

    Raises:
        UserError: fewer than one layer.
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
            raise UserError(f"layers counts pyramid convolutions and must be at least 1, not {layers}.")
        stack = [PyramidConv(out_channels, norm=norm, deformable=deformable) for _ in range(layers)]
        super().__init__(
            in_channels, out_channels, extra_blocks, top_down=lambda _: NearestAdd(), refine=nn.Sequential(*stack)
        )


class SEPC(PConvFPN):
    """Scale-equalising pyramid convolution: deformable above the finest level, with BatchNorm over all levels.

    One-stage detectors of this name also have its layer in place of their towers (``towers="sepc"``).

    Args: as :class:`PConvFPN`.
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
