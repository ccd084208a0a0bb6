"""Channel Refinement Block (CRB): the bottom-up step of DRFPN."""

import torch
from torch import Tensor, nn

from drfpn.necks.base import ResidualConv, Step, crop_like, init_convs, init_zeros
from drfpn.necks.drfpn.guides import FineAverage
from drfpn.necks.layers.norm import BatchNorm
from drfpn.ops import root_mean_square

DOWN_SHARE = 0.35
"""Of Kaiming's size: what the strided convolution begins with, see ``ChannelRefinementBlock.paper``."""


class BoundedGate(nn.Module):
    r"""Predicts gates between 0 and 2 from averages, whatever their scale.

    .. math::
        \alpha = 2 \, \sigma(\mathrm{conv}_4(x / \mathrm{rms}(x)))

    The root mean square is that of the averages of one image. Starting values: the convolution is zero, so all gates
    begin at 1 exactly.

    Args:
        channels: number of averages and of gates.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)
        init_zeros(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        """Map averages (N, C, 1, 1) to gates of the same shape."""
        return 2 * self.conv(x / root_mean_square(x)).sigmoid()


class ChannelRefinement(nn.Module):
    r"""Weighs the channels of a coarser map by what a finer one holds (Eq. 5 and the product of Eq. 6).

    .. math::
        \mathrm{conv}_5(c) \odot \alpha, \quad \alpha = \mathrm{conv}_4(\mathrm{GAP}(f))

    Make one with :meth:`bounded`, :meth:`paper` or :meth:`release`, or give the parts.

    Args:
        gate: maps the guide's (N, C, 1, 1) to alpha (N, C, 1, 1).
        refine: maps coarse to conv5(coarse), of the same shape.
        guide: maps (fine, coarse) to (N, C, 1, 1).
    """

    def __init__(self, gate: nn.Module, refine: nn.Module, guide: nn.Module) -> None:
        super().__init__()
        self.guide, self.gate, self.refine = guide, gate, refine

    @classmethod
    def bounded(cls, channels: int, guide: Step = FineAverage) -> "ChannelRefinement":
        """Make one that cannot diverge and begins as the identity: a :class:`BoundedGate`, conv5 with a shortcut."""
        return cls(BoundedGate(channels), ResidualConv(channels), guide(channels))

    @classmethod
    def paper(cls, channels: int, guide: Step = FineAverage) -> "ChannelRefinement":
        """Make that of Eqs. 5 and 6: no norm, no activation.

        A gate has no bound: on photographs with large objects it can grow with the map that it reads until the loss
        diverges. A lower learning rate helps; :meth:`bounded` does not diverge.

        Starting values: the gate's weights are N(0, 0.001) and its bias 1, so every channel begins open and has a
        gradient at once, also where it sums hundreds of large averages.
        """
        gate = nn.Conv2d(channels, channels, 1)
        refine = nn.Conv2d(channels, channels, 3, padding=1)
        init_convs(refine)
        nn.init.normal_(gate.weight, std=0.001)
        nn.init.constant_(gate.bias, 1)  # type: ignore[arg-type]  # typed as optional
        return cls(gate, refine, guide(channels))

    @classmethod
    def release(cls, channels: int, guide: Step = FineAverage) -> "ChannelRefinement":
        """Make that of the authors' release: convolution, BatchNorm and ReLU for the gate and for conv5.

        Starting values: BatchNorm of the gate begins with scale 0.1 and shift 1, so that every gate begins open
        near 1. As released (scale 1, shift 0) it normalises as many numbers as the batch has images, and with two
        images exactly half of all gates are zero. BatchNorm of conv5 begins with scale 0.1, since its output has
        the same size however small the maps are. No branch is dead: each scale, shift and weight has a gradient
        at once.
        """
        gate_norm, refine_norm = BatchNorm(channels), BatchNorm(channels)
        gate = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), gate_norm, nn.ReLU())
        refine = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), refine_norm, nn.ReLU())
        init_convs(gate)
        init_convs(refine)
        nn.init.constant_(gate_norm.weight, 0.1)
        nn.init.ones_(gate_norm.bias)
        nn.init.constant_(refine_norm.weight, 0.1)
        return cls(gate, refine, guide(channels))

    def gates(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Return alpha (N, C, 1, 1), the weight of each channel of the coarser map (Eq. 5)."""
        return self.gate(self.guide(fine, coarse))

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Return ``coarse`` (N, C, h, w), refined."""
        return self.gates(fine, coarse) * self.refine(coarse)


class ChannelRefinementBlock(nn.Module):
    r"""Adds a finer map to a coarser one whose channels the finer one weighs (CRB, Eqs. 5 and 6).

    .. math::
        \mathrm{CRB}(f, c) = \mathrm{conv}_5(c) \odot \alpha + \mathrm{down}(f), \quad
        \alpha = \mathrm{conv}_4(\mathrm{GAP}(f))

    ``conv_6`` of Eq. 6 follows in the pyramid. The text of the paper takes conv5 as 1x1 and conv6 as 3x3, its
    formula the other way round; both are 3x3, which alone fits Table 7.

    Convention: fine (N, C, H, W), coarse (N, C, h, w) of half its size, gate (N, C, 1, 1), result as coarse.

    Make one with :meth:`bounded`, :meth:`paper` or :meth:`release`, or give the parts.

    Args:
        channels: width of both maps.
        refinement: maps (fine, coarse) to the refined coarse map.
        share: of Kaiming's standard deviation, what ``down`` begins with.
    """

    def __init__(self, channels: int, refinement: ChannelRefinement, share: float = 1.0) -> None:
        super().__init__()
        self.refinement = refinement
        self.down = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        init_convs(self.down)
        self.down.weight.data.mul_(share)

    @classmethod
    def bounded(cls, channels: int, guide: Step = FineAverage) -> "ChannelRefinementBlock":
        """Make the block of :meth:`ChannelRefinement.bounded`; ``down`` is zero: it begins by returning ``coarse``."""
        return cls(channels, ChannelRefinement.bounded(channels, guide), share=0.0)

    @classmethod
    def paper(cls, channels: int, guide: Step = FineAverage) -> "ChannelRefinementBlock":
        """Make the block of Eqs. 5 and 6: no norm, no activation.

        Starting values: ``down`` begins at 0.35 of Kaiming's standard deviation, since variances add up from level
        to level along the path and the coarsest level would else leave with three times FPN's.
        """
        return cls(channels, ChannelRefinement.paper(channels, guide), share=DOWN_SHARE)

    @classmethod
    def release(cls, channels: int, guide: Step = FineAverage) -> "ChannelRefinementBlock":
        """Make the block of the authors' release, with BatchNorm and ReLU; ``down`` begins at 0.7 of Kaiming's."""
        return cls(channels, ChannelRefinement.release(channels, guide), share=0.7)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Merge ``fine`` (N, C, H, W) into ``coarse`` (N, C, h, w)."""
        gates, refined = self.refinement.gates(fine, coarse), self.refinement.refine(coarse)
        return torch.addcmul(crop_like(self.down(fine), coarse), gates, refined)
