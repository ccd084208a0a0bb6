"""NAS-FPN: a neck whose connections were found by architecture search (Ghiasi et al., CVPR 2019, arXiv:1904.07392)."""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.necks.base import CoarserLevels, Neck
from drfpn.necks.layers.conv_norm import conv1x1_norm
from drfpn.necks.layers.convs import init_convs
from drfpn.necks.layers.extra_levels import extra_level_names
from drfpn.necks.layers.norm import BatchNorm
from drfpn.ops import crop_like
from drfpn.utils.choices import choose
from drfpn.utils.errors import UsageError

NUM_LEVELS = 5
"""Number of levels that the connections were searched for: P3 to P7."""


def gate_by_fine(fine: Tensor, coarse: Tensor) -> Tensor:
    """Fuse two maps (N, C, H, W): fine + sigmoid(global average of fine) * coarse, as mmdetection does."""
    return fine + fine.mean((2, 3), keepdim=True).sigmoid() * coarse


def gate_by_coarse(fine: Tensor, coarse: Tensor) -> Tensor:
    """Fuse two maps (N, C, H, W): coarse + sigmoid(global maximum of coarse) * fine, as Google's code does."""
    return coarse + coarse.amax((2, 3), keepdim=True).sigmoid() * fine


GATES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mmdetection": gate_by_fine, "google": gate_by_coarse}
"""Forms of the paper's global pooling cell by name: (fine, coarse) of one size -> their fusion."""


def downsample(m: Tensor, stride: int, reference: Tensor) -> Tensor:
    """Max-pool ``m`` with a kernel and a stride of ``stride`` pixels, cropped to the size of ``reference``."""
    return crop_like(F.max_pool2d(m, stride, ceil_mode=True), reference)


def upsample(m: Tensor, reference: Tensor) -> Tensor:
    """Upsample ``m`` to the size of ``reference`` by nearest neighbor."""
    return F.interpolate(m, size=reference.shape[-2:], mode="nearest")


class ReLUConvBN(nn.Sequential):
    """ReLU, 3x3 convolution and BatchNorm, behind each fusion.

    Args:
        channels: number of input and output channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1), BatchNorm(channels))
        init_convs(self)


class NASFPNStage(nn.Module):
    """The seven merging cells of the searched architecture, on five levels.

    A cell fuses two maps at the size of its output level, by a sum or by a gated sum. Maps are upsampled by nearest
    neighbor and downsampled by max pooling.

    Args:
        channels: width of the levels.
        gate: (fine, coarse) of one size -> their gated sum, an entry of ``GATES``.
    """

    def __init__(self, channels: int, gate: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.gate = gate
        self.cells = nn.ModuleDict({name: ReLUConvBN(channels) for name in ("4a", "4b", "3", "4", "5", "7", "6")})

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """Map P3 to P7 (N, C, H, W), finest first, to the same shapes."""
        p3, p4, p5, p6, p7 = levels
        cells, gate = self.cells, self.gate
        p4a = cells["4a"](gate(p4, upsample(p6, p4)))
        p4b = cells["4b"](p4a + p4)
        n3 = cells["3"](upsample(p4b, p3) + p3)
        n4 = cells["4"](downsample(n3, 2, p4) + p4b)
        n5 = cells["5"](p5 + gate(downsample(n3, 4, p5), downsample(n4, 2, p5)))
        n7 = cells["7"](p7 + gate(downsample(p4b, 8, p7), downsample(n5, 4, p7)))
        n6 = cells["6"](gate(downsample(n5, 2, p6), upsample(n7, p6)))
        return [n3, n4, n5, n6, n7]


class NASFPNPath(nn.Module):
    """Adds the coarser levels up to five, then applies the stages.

    A coarser level is the one before it through a 1x1 convolution, BatchNorm and 2x2 max pooling.

    Args:
        channels: width of the levels.
        missing: number of levels to add.
        stages: modules that map the five levels to the same shapes, applied one after the other.
    """

    def __init__(self, channels: int, missing: int, stages: Sequence[nn.Module]) -> None:
        super().__init__()
        self.coarser = nn.ModuleList(conv1x1_norm(channels, channels) for _ in range(missing))
        self.stages = nn.ModuleList(stages)

    def forward(self, laterals: list[Tensor]) -> list[Tensor]:
        """Map the laterals (N, C, H, W), finest first, to all five levels."""
        p = list(laterals)
        for conv in self.coarser:
            p.append(F.max_pool2d(conv(p[-1]), 2, ceil_mode=True))
        for stage in self.stages:
            p = stage(p)
        return p


class NASFPN(Neck):
    """NAS-FPN 7@256: seven stages of searched connections between five levels, each stage with its own weights.

    The connections were searched for P3 to P7. From three maps (C3 to C5) the neck makes these five levels, whatever
    ``extra_blocks`` would add; from four (C2 to C5) it makes P2 to P6 by the same connections, at four times the cost.
    The detectors of this library give it C3 to C5, the two-stage ones too.

    Differs from mmdetection: P6 and P7 are rounded up where a side is odd, and maps are resized to the level that they
    are fused into, so images need no padding to multiples of 128. Differs from Google's code, besides the gate: there
    P6 and P7 are max-pooled without a convolution, and SiLU may be used instead of ReLU.

    The BatchNorms of all stages make it unsuitable for small batches: the paper trains with a batch size of 64.

    Args:
        in_channels: channels of the backbone's maps C3 to C5 or C2 to C5, finest first.
        out_channels: channels of every output level.
        extra_blocks: torchvision's ``ExtraFPNBlock``, whose level names are used if it adds as many levels as the neck.
        stages: number of stages.
        gate: form of the global pooling cell, a key of ``GATES``: ``"mmdetection"`` gates the coarser map by the
            average of the finer one, ``"google"`` the finer map by the maximum of the coarser one.

    Raises:
        UsageError: not three or four maps, no stage, an unknown gate, or an ``extra_blocks`` whose levels are not
            known.
    """

    backbone_strides = (8, 16, 32)

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        extra_blocks: ExtraFPNBlock | None = None,
        *,
        stages: int = 7,
        gate: str = "mmdetection",
    ) -> None:
        if len(in_channels) not in (3, 4) or min(in_channels) < 1:
            raise UsageError(
                f"`in_channels` of NAS-FPN must be those of C3 to C5 or of C2 to C5, finest first, not {in_channels}."
            )
        if stages < 1:
            raise UsageError(f"`stages` of NAS-FPN must be at least 1, not {stages}.")
        gate_fusion = choose("gate", gate, GATES)
        missing = NUM_LEVELS - len(in_channels)
        names = extra_level_names(extra_blocks)
        laterals = [conv1x1_norm(channels, out_channels) for channels in in_channels]
        stack = [NASFPNStage(out_channels, gate_fusion) for _ in range(stages)]
        super().__init__(
            in_channels,
            out_channels,
            lateral=laterals,
            smooth=[nn.Identity() for _ in range(NUM_LEVELS)],
            top_down=NASFPNPath(out_channels, missing, stack),
            coarser=CoarserLevels(names=names if len(names) == missing else ["p6", "p7"][:missing]),
            extra_blocks=extra_blocks,
        )
