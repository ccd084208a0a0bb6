"""Steps of the paper's ablations: parts of SRB alone, and SRB and CRB in the other path (Tables 3 and 4).

Where the paper names such a step without an equation, ``docs/reproduction.md`` says how its text was read.
"""

from torch import Tensor, nn

from drfpn.necks.base import crop_like, init_convs
from drfpn.necks.drfpn.crb import DOWN_SHARE, ChannelRefinement
from drfpn.necks.drfpn.guides import ConcatGuide, FineProjection, Norm, unscaled
from drfpn.necks.drfpn.srb import SpatialRefinementBlock, offset_head, weight_head
from drfpn.ops import Warp, add_warped, warp


class SamplingPointOffset(nn.Module):
    """SRB with the offset alone (SPO of Table 4): the sampled map takes the place of the upsampled one.

    With both in the sum and no omega to weigh them, the coarser map would count twice at every step.
    It begins as FPN's step with bilinear upsampling.

    Args:
        channels: width of both maps.
        warp: as of :class:`SpatialRefinementBlock`.
        norm: the scale at which the guide reads its maps.
    """

    def __init__(self, channels: int, warp: Warp = warp, norm: Norm = unscaled) -> None:
        super().__init__()
        self.warp = warp
        self.guide = ConcatGuide(channels, norm)
        self.offset = offset_head(self.guide)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Merge ``coarse`` (N, C, h, w) into ``fine`` (N, C, H, W)."""
        return fine + self.warp(coarse, self.offset(self.guide(fine, coarse)))


class GlobalInformationRefinement(nn.Module):
    """SRB with the weight alone (GIR of Table 4): every offset is zero.

    Args:
        channels: width of both maps.
        warp: as of :class:`SpatialRefinementBlock`.
        norm: the scale at which the guide reads its maps.
        bound: as of :class:`SpatialRefinementBlock`.
    """

    def __init__(self, channels: int, warp: Warp = warp, norm: Norm = unscaled, bound: nn.Module | None = None) -> None:
        super().__init__()
        self.warp = warp
        self.guide = ConcatGuide(channels, norm)
        self.weight = weight_head(self.guide, channels // 2, bound)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Merge ``coarse`` (N, C, h, w) into ``fine`` (N, C, H, W)."""
        nowhere = fine.new_zeros(fine.shape[0], 2, *fine.shape[-2:])
        return add_warped(fine, coarse, nowhere, self.weight(self.guide(fine, coarse)), self.warp)


class CRBTopDown(nn.Module):
    """CRB in the top-down path (Table 3): the coarser map's channels are weighed by the finer one, then it is merged.

    With FPN's step this is TD[CRB], with SRB TD[SRB+CRB].

    Args:
        refinement: maps (fine, coarse) to the refined coarse map.
        step: top-down step that merges it.
    """

    def __init__(self, refinement: ChannelRefinement, step: nn.Module) -> None:
        super().__init__()
        self.refinement, self.step = refinement, step

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Merge ``coarse`` (N, C, h, w) into ``fine`` (N, C, H, W)."""
        return self.step(fine, self.refinement(fine, coarse))


class SRBBottomUp(SpatialRefinementBlock):
    """SRB in the bottom-up path (BU[SRB] of Table 3): the finer map is sampled at the coarser one's pixels.

    What was upsampled on the way down is halved on the way up, by a 3x3 convolution of stride 2 in place of both the
    transposed one (for the guide) and the nearest neighbour (for the sum, as in PAFPN). The latter begins as CRB's.

    Args:
        channels: width of both maps.
        warp: as of :class:`SpatialRefinementBlock`.
        norm: the scale at which the guide reads its maps.
        bound: as of :class:`SpatialRefinementBlock`.
        share: of Kaiming's standard deviation, what ``down`` begins with.
    """

    def __init__(
        self,
        channels: int,
        warp: Warp = warp,
        norm: Norm = unscaled,
        bound: nn.Module | None = None,
        share: float = DOWN_SHARE,
    ) -> None:
        super().__init__(channels, warp, lambda channels: ConcatGuide(channels, norm, FineProjection), bound)
        self.down = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        init_convs(self.down)
        self.down.weight.data.mul_(share)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Merge ``fine`` (N, C, H, W) into ``coarse`` (N, C, h, w)."""
        offset, weight = self.refine(coarse, fine)
        return coarse + weight * self.warp(fine, offset) + crop_like(self.down(fine), coarse)
