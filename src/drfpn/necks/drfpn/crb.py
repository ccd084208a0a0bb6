"""Channel Refinement Block (CRB): the bottom-up step of DRFPN, with the prediction of its gates."""

import torch
from torch import Tensor, nn

from drfpn.necks.base import LayerFactory
from drfpn.necks.drfpn.guides import FineAverage
from drfpn.necks.layers.convs import ResidualConv, init_convs, init_zeros
from drfpn.necks.layers.norm import BatchNorm
from drfpn.ops import crop_like, root_mean_square

DOWN_INIT_SCALE = 0.35
"""Factor of the strided convolution's initial weights, see ``ChannelRefinementBlock.paper``."""


class BoundedGate(nn.Module):
    r"""Predicts gates between 0 and 2 from global averages, independently of their scale.

    .. math::
        \alpha = 2 \, \sigma(\mathrm{conv}_4(x / \mathrm{rms}(x)))

    The root mean square is that of the averages of one image. The convolution is initialized with zero, so that all
    gates start at exactly 1.

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
    r"""Multiplies the channels of a coarser map by gates that a finer one predicts (Eq. 5 and the product of Eq. 6).

    .. math::
        \mathrm{conv}_5(c) \odot \alpha, \quad \alpha = \mathrm{conv}_4(\mathrm{GAP}(f))

    Make one with :meth:`bounded`, :meth:`paper` or :meth:`release`, or from its parts.

    Args:
        gate: conv4, maps the guide's (N, C, 1, 1) to alpha (N, C, 1, 1).
        refine: conv5, maps the coarser map to one of the same shape.
        guide: maps (fine, coarse) to (N, C, 1, 1).
    """

    def __init__(self, gate: nn.Module, refine: nn.Module, guide: nn.Module) -> None:
        super().__init__()
        self.guide, self.gate, self.refine = guide, gate, refine

    @classmethod
    def bounded(cls, channels: int, guide: LayerFactory = FineAverage) -> "ChannelRefinement":
        """Make one that cannot diverge and starts as the identity: a :class:`BoundedGate`, conv5 with a shortcut.

        Args:
            channels: width of both maps.
            guide: makes the guide.
        """
        return cls(BoundedGate(channels), ResidualConv(channels), guide(channels))

    @classmethod
    def paper(cls, channels: int, guide: LayerFactory = FineAverage) -> "ChannelRefinement":
        """Make that of Eqs. 5 and 6: no norm, no activation.

        Gates are not bounded: on photographs with large objects they can grow with the map that they are predicted
        from until the loss diverges. A lower learning rate helps; :meth:`bounded` does not diverge.

        Initialization: the gate's weights are N(0, 0.001) and its bias is 1, so that all channels start open and have a
        gradient immediately, also where a gate sums hundreds of large averages.

        Args:
            channels: width of both maps.
            guide: makes the guide.
        """
        gate = nn.Conv2d(channels, channels, 1)
        refine = nn.Conv2d(channels, channels, 3, padding=1)
        init_convs(refine)
        nn.init.normal_(gate.weight, std=0.001)
        nn.init.constant_(gate.bias, 1)  # type: ignore[arg-type]  # typed as optional
        return cls(gate, refine, guide(channels))

    @classmethod
    def release(cls, channels: int, guide: LayerFactory = FineAverage) -> "ChannelRefinement":
        """Make that of the authors' release: convolution, BatchNorm and ReLU both for the gate and for conv5.

        Initialization: BatchNorm of the gate has scale 0.1 and shift 1, so that all gates start open near 1. As
        released (scale 1, shift 0) it normalizes as many values as the batch has images, and with two images exactly
        half of all gates are zero. BatchNorm of conv5 has scale 0.1, since the scale of its output does not depend on
        that of the maps. No branch is dead: each scale, shift and weight has a gradient immediately.

        Args:
            channels: width of both maps.
            guide: makes the guide.
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

    def predict_gates(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Return alpha (N, C, 1, 1), the gate of each channel of the coarser map (Eq. 5).

        Args:
            fine: (N, C, H, W).
            coarse: (N, C, h, w).
        """
        return self.gate(self.guide(fine, coarse))

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Return the refined coarse map (N, C, h, w)."""
        return self.predict_gates(fine, coarse) * self.refine(coarse)


class ChannelRefinementBlock(nn.Module):
    r"""Adds a finer map, downsampled, to a coarser one whose channels the finer one gates (CRB, Eqs. 5 and 6).

    .. math::
        \mathrm{CRB}(f, c) = \mathrm{conv}_5(c) \odot \alpha + \mathrm{down}(f), \quad
        \alpha = \mathrm{conv}_4(\mathrm{GAP}(f))

    ``conv_6`` of Eq. 6 follows in the neck. In the text of the paper conv5 is 1x1 and conv6 3x3, in its formula the
    other way round; both are 3x3 here, which alone fits Table 7.

    Shapes: fine (N, C, H, W), coarse (N, C, h, w) of half its size, alpha (N, C, 1, 1), result as coarse.

    Make one with :meth:`bounded`, :meth:`paper` or :meth:`release`, or from its parts.

    Args:
        channels: width of both maps.
        refinement: maps (fine, coarse) to the refined coarse map.
        init_scale: factor of the initial weights of ``down``, the strided convolution, which are Kaiming uniform.
    """

    def __init__(self, channels: int, refinement: ChannelRefinement, init_scale: float = 1.0) -> None:
        super().__init__()
        self.refinement = refinement
        self.down = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        init_convs(self.down)
        self.down.weight.data.mul_(init_scale)

    @classmethod
    def bounded(cls, channels: int, guide: LayerFactory = FineAverage) -> "ChannelRefinementBlock":
        """Make the block of :meth:`ChannelRefinement.bounded`; ``down`` is zero, so that it starts as ``coarse``.

        Args:
            channels: width of both maps.
            guide: makes the guide of the gates.
        """
        return cls(channels, ChannelRefinement.bounded(channels, guide), init_scale=0.0)

    @classmethod
    def paper(cls, channels: int, guide: LayerFactory = FineAverage) -> "ChannelRefinementBlock":
        """Make the block of Eqs. 5 and 6: no norm, no activation.

        Initialization: ``down`` is scaled by 0.35, since variances add up along the path, and the coarsest level would
        otherwise have three times the scale of FPN's.

        Args:
            channels: width of both maps.
            guide: makes the guide of the gates.
        """
        return cls(channels, ChannelRefinement.paper(channels, guide), init_scale=DOWN_INIT_SCALE)

    @classmethod
    def release(cls, channels: int, guide: LayerFactory = FineAverage) -> "ChannelRefinementBlock":
        """Make the block of the authors' release, with BatchNorm and ReLU; the initial ``down`` is scaled by 0.7.

        Args:
            channels: width of both maps.
            guide: makes the guide of the gates.
        """
        return cls(channels, ChannelRefinement.release(channels, guide), init_scale=0.7)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Fuse ``fine`` (N, C, H, W) into ``coarse`` (N, C, h, w)."""
        gates, refined = self.refinement.predict_gates(fine, coarse), self.refinement.refine(coarse)
        return torch.addcmul(crop_like(self.down(fine), coarse), gates, refined)
