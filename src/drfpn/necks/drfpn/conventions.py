"""Conventions of DRFPN: readings of the paper that differ in the blocks it is built from."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from torch import nn

from drfpn.necks.base import LayerFactory
from drfpn.necks.drfpn import guides
from drfpn.necks.drfpn.crb import DOWN_INIT_SCALE, ChannelRefinement, ChannelRefinementBlock
from drfpn.necks.drfpn.ppm import PyramidPoolingModule, ResidualPyramidPooling
from drfpn.necks.drfpn.srb import SpatialRefinementBlock
from drfpn.necks.layers.convs import ResidualConv, conv3x3
from drfpn.necks.pafpn import StrideAdd
from drfpn.ops import Warp, warp, warp_released


class Convention(NamedTuple):
    """How SRB, CRB and PPM are built in one reading of the paper."""

    warp: Warp
    """Samples the coarser map in SRB."""
    refinement: Callable[[int], ChannelRefinement]
    """Makes the gated conv5 of CRB for a number of channels."""
    crb: Callable[..., ChannelRefinementBlock]
    """(channels, guide=...) -> CRB."""
    norm: guides.Norm = guides.no_norm
    """Normalizes the projections of SRB's guides."""
    bound: Callable[[], nn.Module] = nn.Identity
    """Makes the bound of omega."""
    ppm: Callable[[int, int], nn.Module] = PyramidPoolingModule
    """(channels of C5, width) -> PPM."""
    smooth_up: LayerFactory = conv3x3
    """Makes conv6, behind each step of the bottom-up path."""
    stride_add: LayerFactory = StrideAdd
    """Makes PAFPN's bottom-up step."""
    down_init_scale: float = DOWN_INIT_SCALE
    """Factor of the initial weights of SRB's strided convolution in the bottom-up path."""

    def srb(
        self, channels: int, guide: Callable[..., guides.SpatialGuide] = guides.ConcatGuide
    ) -> SpatialRefinementBlock:
        """Make an SRB.

        Args:
            channels: width of both maps.
            guide: makes its guide, called with (channels, norm=...).
        """
        return SpatialRefinementBlock(channels, self.warp, partial(guide, norm=self.norm), self.bound())


CONVENTIONS = {
    "bounded": Convention(
        warp,
        ChannelRefinement.bounded,
        ChannelRefinementBlock.bounded,
        norm=guides.rms_norm,
        bound=nn.Tanh,
        ppm=ResidualPyramidPooling,
        smooth_up=ResidualConv,
        stride_add=partial(StrideAdd, init_scale=0.0),
        down_init_scale=0.0,
    ),
    "paper": Convention(warp, ChannelRefinement.paper, ChannelRefinementBlock.paper),
    "release": Convention(warp_released, ChannelRefinement.release, ChannelRefinementBlock.release),
}
"""Conventions by name; :class:`drfpn.DRFPN` compares them."""

DEFAULT_CONVENTION = "bounded"
"""Convention of :class:`drfpn.DRFPN` unless another is given; it is written into the settings of every run."""
