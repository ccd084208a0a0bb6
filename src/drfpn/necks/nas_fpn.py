"""NAS-FPN: a pyramid whose connections were found by search (Ghiasi et al., CVPR 2019, arXiv:1904.07392)."""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.necks.base import Coarser, Neck, crop_like, init_convs
from drfpn.necks.layers.extra_levels import names_added
from drfpn.necks.layers.norm import BatchNorm
from drfpn.utils.errors import UserError, did_you_mean

LEVELS = 5
"""That the searched connections are for: P3 to P7."""


def gate_by_fine(fine: Tensor, coarse: Tensor) -> Tensor:
    """Return the finer map plus the coarser one, whose channels the average of the finer one weighs (mmdetection)."""
    return fine + fine.mean((2, 3), keepdim=True).sigmoid() * coarse


def gate_by_coarse(fine: Tensor, coarse: Tensor) -> Tensor:
    """Return the coarser map plus the finer one, whose channels the maximum of the coarser one weighs (Google)."""
    return coarse + coarse.amax((2, 3), keepdim=True).sigmoid() * fine


GATES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mmdetection": gate_by_fine, "google": gate_by_coarse}
"""Forms of the cell "global pooling" by name: (fine, coarse) of one size -> their sum."""


def pool(m: Tensor, octaves: int, like: Tensor) -> Tensor:
    """Max-pool ``m`` by 2 to the power of ``octaves`` to the size of ``like``, whose halvings may have rounded down."""
    return crop_like(F.max_pool2d(m, 2**octaves, ceil_mode=True), like)


def up(m: Tensor, like: Tensor) -> Tensor:
    """Upsample ``m`` to the size of ``like`` by nearest neighbours."""
    return F.interpolate(m, size=like.shape[-2:], mode="nearest")


class Cell(nn.Sequential):
    """What follows a joined map: ReLU, 3x3 convolution, BatchNorm.

    Args:
        channels: of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1), BatchNorm(channels))
        init_convs(self)


class NASFPNStage(nn.Module):
    """The seven joins that the search found, on five levels.

    A join is a sum or a gated sum of two maps, brought to the size of its own level: up by nearest neighbours, down
    by max-pooling.

    Args:
        channels: of each level.
        gate: (fine, coarse) of one size -> their gated sum.
    """

    def __init__(self, channels: int, gate: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.gate = gate
        self.cells = nn.ModuleDict({name: Cell(channels) for name in ("4a", "4b", "3", "4", "5", "7", "6")})

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """Turn P3 to P7 into new ones of the same sizes."""
        p3, p4, p5, p6, p7 = levels
        cells, gate = self.cells, self.gate
        p4a = cells["4a"](gate(p4, up(p6, p4)))
        p4b = cells["4b"](p4a + p4)
        n3 = cells["3"](up(p4b, p3) + p3)
        n4 = cells["4"](pool(n3, 1, p4) + p4b)
        n5 = cells["5"](p5 + gate(pool(n3, 2, p5), pool(n4, 1, p5)))
        n7 = cells["7"](p7 + gate(pool(p4b, 3, p7), pool(n5, 2, p7)))
        n6 = cells["6"](gate(pool(n5, 1, p6), up(n7, p6)))
        return [n3, n4, n5, n6, n7]


class NASFPNPath(nn.Module):
    """Makes the levels that are missing of five, then passes all through the stages.

    A missing level is the one before it through a 1x1 convolution with BatchNorm, max-pooled.

    Args:
        channels: of each level.
        missing: how many levels.
        stages: what all levels pass, one behind the other.
    """

    def __init__(self, channels: int, missing: int, stages: Sequence[nn.Module]) -> None:
        super().__init__()
        self.coarser = nn.ModuleList(projection(channels, channels) for _ in range(missing))
        self.stages = nn.ModuleList(stages)

    def forward(self, laterals: list[Tensor]) -> list[Tensor]:
        """Turn the backbone's levels into all five."""
        p = list(laterals)
        for conv in self.coarser:
            p.append(F.max_pool2d(conv(p[-1]), 2, ceil_mode=True))
        for stage in self.stages:
            p = stage(p)
        return p


class NASFPN(Neck):
    """NAS-FPN 7@256: five levels, joined by searched connections in seven stages with weights of their own.

    The connections were searched for P3 to P7. From three maps (C3 to C5) the pyramid makes these, whatever
    ``extra_blocks`` would add, which only names them; from four it makes P2 to P6 by the same connections, at four
    times the cost. Detectors of this library give it C3 to C5, two-stage ones too.

    Differs from mmdetection: P6 and P7 round up where a side is odd, and levels are joined whatever way they were
    rounded, so images need no padding to multiples of 128. Differs from Google's besides the gate: there P6 and P7
    are max-pooled without a convolution, and SiLU may stand in place of ReLU.

    BatchNorm of all stages is in the way of small batches: the paper trains 64 images a step.

    Args:
        in_channels: channels of C3 to C5 or C2 to C5.
        out_channels: channels of every level that leaves.
        extra_blocks: torchvision's ``ExtraFPNBlock``.
        stages: how many.
        gate: of the cell "global pooling", a name of ``GATES``: ``"mmdetection"`` averages the finer map and gates the
            coarser, ``"google"`` takes the maximum of the coarser map and gates the finer.

    Raises:
        UserError: not three or four maps, no stage, or an unknown gate.
    """

    first_level = 3

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
            raise UserError(f"NAS-FPN takes the channels of C3 to C5 or of C2 to C5, finest first, not {in_channels}.")
        if stages < 1:
            raise UserError(f"stages of NAS-FPN must be at least 1, not {stages}.")
        if gate not in GATES:
            raise UserError(f"gate must be one of {', '.join(GATES)}, not {gate!r}.{did_you_mean(str(gate), GATES)}")
        missing = LEVELS - len(in_channels)
        names = names_added(extra_blocks)
        laterals = [projection(channels, out_channels) for channels in in_channels]
        stack = [NASFPNStage(out_channels, GATES[gate]) for _ in range(stages)]
        super().__init__(
            in_channels,
            out_channels,
            lateral=laterals,
            smooth=[nn.Identity() for _ in range(LEVELS)],
            top_down=NASFPNPath(out_channels, missing, stack),
            coarser=Coarser(names=names if len(names) == missing else ["p6", "p7"][:missing], instead_of=extra_blocks),
        )


def projection(in_channels: int, out_channels: int) -> nn.Sequential:
    """Make the 1x1 convolution with BatchNorm that brings a map to a width."""
    layers = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, bias=False), BatchNorm(out_channels))
    init_convs(layers)
    return layers
