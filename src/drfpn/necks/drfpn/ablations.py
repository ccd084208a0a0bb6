"""Steps of the paper's ablations: parts of SRB alone, SRB in the bottom-up and CRB in the top-down path (Tables 3, 4).

Where the paper names a step without an equation, ``docs/reproduction.md`` says how its text was interpreted.
"""

from torch import Tensor, nn

from drfpn.necks.drfpn.crb import DOWN_INIT_SCALE, ChannelRefinement
from drfpn.necks.drfpn.guides import ConcatGuide, FineProjection, Norm, no_norm
from drfpn.necks.drfpn.srb import SpatialRefinementBlock, offset_head, weight_head
from drfpn.necks.layers.convs import init_convs
from drfpn.ops import Warp, add_warped, crop_like, warp


class SamplingPointOffset(nn.Module):
    """SRB with the offset alone (SPO of Table 4): the sampled map replaces the upsampled one.

    If both were in the sum without omega, the coarser map would be added twice at every step. It starts as FPN's step
    with bilinear upsampling.

    Args:
        channels: width of both maps.
        warp: samples the coarser map, see :class:`SpatialRefinementBlock`.
        norm: normalizes the guide's projections.
    """

    def __init__(self, channels: int, warp: Warp = warp, norm: Norm = no_norm) -> None:
        super().__init__()
        self.warp = warp
        self.guide = ConcatGuide(channels, norm)
        self.offset = offset_head(self.guide)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Fuse ``coarse`` (N, C, h, w) into ``fine`` (N, C, H, W)."""
        return fine + self.warp(coarse, self.offset(self.guide(fine, coarse)))


class GlobalInformationRefinement(nn.Module):
    """SRB with omega alone (GIR of Table 4): all offsets are zero.

    Args:
        channels: width of both maps.
        warp: samples the coarser map, see :class:`SpatialRefinementBlock`.
        norm: normalizes the guide's projections.
        bound: maps omega as predicted to omega as used; ``None`` for no bound.
    """

    def __init__(self, channels: int, warp: Warp = warp, norm: Norm = no_norm, bound: nn.Module | None = None) -> None:
        super().__init__()
        self.warp = warp
        self.guide = ConcatGuide(channels, norm)
        self.weight = weight_head(self.guide, channels // 2, bound)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Fuse ``coarse`` (N, C, h, w) into ``fine`` (N, C, H, W)."""
        zero_offset = fine.new_zeros(fine.shape[0], 2, *fine.shape[-2:])
        return add_warped(fine, coarse, zero_offset, self.weight(self.guide(fine, coarse)), self.warp)


class CRBTopDown(nn.Module):
    """CRB in the top-down path (Table 3): the channels of the coarser map are gated by the finer one, then it is fused.

    With FPN's step this is TD[CRB], with SRB TD[SRB+CRB].

    Args:
        refinement: maps (fine, coarse) to the refined coarse map.
        step: top-down step that fuses the refined map into the finer one.
    """

    def __init__(self, refinement: ChannelRefinement, step: nn.Module) -> None:
        super().__init__()
        self.refinement, self.step = refinement, step

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Fuse ``coarse`` (N, C, h, w) into ``fine`` (N, C, H, W)."""
        return self.step(fine, self.refinement(fine, coarse))


class SRBBottomUp(SpatialRefinementBlock):
    """SRB in the bottom-up path (BU[SRB] of Table 3): the finer map is sampled at the coarser one's pixels.

    Upsampling in SRB is replaced by 3x3 convolutions of stride 2, both in the guide (for the transposed convolution)
    and in the sum (for nearest-neighbor upsampling, as in PAFPN). The latter is initialized as
    the paper's CRB.

    Args:
        channels: width of both maps.
        warp: samples the finer map, see :class:`SpatialRefinementBlock`.
        norm: normalizes the guide's projections.
        bound: maps omega as predicted to omega as used; ``None`` for no bound.
        init_scale: factor of the initial weights of ``down``, the strided convolution, which are Kaiming uniform.
    """

    def __init__(
        self,
        channels: int,
        warp: Warp = warp,
        norm: Norm = no_norm,
        bound: nn.Module | None = None,
        init_scale: float = DOWN_INIT_SCALE,
    ) -> None:
        super().__init__(channels, warp, lambda channels: ConcatGuide(channels, norm, FineProjection), bound)
        self.down = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        init_convs(self.down)
        self.down.weight.data.mul_(init_scale)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Fuse ``fine`` (N, C, H, W) into ``coarse`` (N, C, h, w)."""
        offset, weight = self.predict_offset_and_weight(coarse, fine)
        return coarse + weight * self.warp(fine, offset) + crop_like(self.down(fine), coarse)
