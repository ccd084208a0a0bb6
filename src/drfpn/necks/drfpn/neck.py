"""DRFPN: the pyramid of Dual Refinement Feature Pyramid Networks (arXiv:2012.01733)."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

from torch import nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.necks.base import ResidualConv, Step, StepNeck, conv3x3
from drfpn.necks.drfpn import guides
from drfpn.necks.drfpn.ablations import (
    CRBTopDown,
    GlobalInformationRefinement,
    SamplingPointOffset,
    SRBBottomUp,
)
from drfpn.necks.drfpn.crb import DOWN_SHARE, ChannelRefinement, ChannelRefinementBlock
from drfpn.necks.drfpn.guides import SpatialGuide
from drfpn.necks.drfpn.ppm import PyramidPoolingModule, ResidualPyramidPooling
from drfpn.necks.drfpn.srb import SpatialRefinementBlock
from drfpn.necks.fpn import NearestAdd, StrideAdd
from drfpn.necks.layers.dense_aspp import DenseASPP
from drfpn.necks.layers.non_local import NonLocal
from drfpn.ops import Warp, warp, warp_released
from drfpn.utils.errors import UserError, did_you_mean


class Convention(NamedTuple):
    """A reading of the method: what SRB, CRB and PPM are made from."""

    warp: Warp
    refinement: Callable[[int], ChannelRefinement]
    crb: Callable[..., ChannelRefinementBlock]
    """(channels, guide=...) -> CRB."""
    norm: guides.Norm = guides.unscaled
    """The scale at which SRB reads its maps."""
    bound: Callable[[], nn.Module] = nn.Identity
    """Makes what bounds omega."""
    ppm: Callable[[int, int], nn.Module] = PyramidPoolingModule
    """(channels of C5, width) -> PPM."""
    smooth_up: Step = conv3x3
    """Makes conv6, behind each step of the bottom-up path."""
    stride: Step = StrideAdd
    """Makes PAFPN's step."""
    down_share: float = DOWN_SHARE
    """What the strided convolution of SRB in the bottom-up path begins with."""

    def srb(self, channels: int, guide: Callable[..., SpatialGuide] = guides.ConcatGuide) -> SpatialRefinementBlock:
        """Make an SRB that is guided by ``guide`` (channels, norm)."""
        return SpatialRefinementBlock(channels, self.warp, partial(guide, norm=self.norm), self.bound())


CONVENTIONS = {
    "bounded": Convention(
        warp,
        ChannelRefinement.bounded,
        ChannelRefinementBlock.bounded,
        norm=guides.over_rms,
        bound=nn.Tanh,
        ppm=ResidualPyramidPooling,
        smooth_up=ResidualConv,
        stride=partial(StrideAdd, share=0.0),
        down_share=0.0,
    ),
    "paper": Convention(warp, ChannelRefinement.paper, ChannelRefinementBlock.paper),
    "release": Convention(warp_released, ChannelRefinement.release, ChannelRefinementBlock.release),
}
"""By name; see :class:`DRFPN`."""

DEFAULT_CONVENTION = "bounded"
"""Of :class:`DRFPN`; it is written into the settings of every run."""

TOP_DOWN: dict[str, Callable[[Convention, int], nn.Module]] = {
    "nearest": lambda _, n: NearestAdd(),
    "srb": lambda by, n: by.srb(n),
    "srb_from_fine": lambda by, n: by.srb(n, guides.TargetProjection),
    "srb_from_coarse": lambda by, n: by.srb(n, guides.CoarseProjection),
    "srb_from_sum": lambda by, n: by.srb(n, guides.SumGuide),
    "srb_offset": lambda by, n: SamplingPointOffset(n, by.warp, by.norm),
    "srb_weight": lambda by, n: GlobalInformationRefinement(n, by.warp, by.norm, by.bound()),
    "crb": lambda by, n: CRBTopDown(by.refinement(n), NearestAdd()),
    "crb_srb": lambda by, n: CRBTopDown(by.refinement(n), by.srb(n)),
}
"""Steps of the top-down path by name."""

BOTTOM_UP: dict[str, Callable[[Convention, int], nn.Module]] = {
    "stride": lambda by, n: by.stride(n),
    "crb": lambda by, n: by.crb(n),
    "crb_from_coarse": lambda by, n: by.crb(n, guide=guides.CoarseAverage),
    "crb_from_sum": lambda by, n: by.crb(n, guide=guides.SumAverage),
    "crb_from_both": lambda by, n: by.crb(n, guide=guides.ConcatAverage),
    "srb": lambda by, n: SRBBottomUp(n, by.warp, by.norm, by.bound(), share=by.down_share),
}
"""Steps of the bottom-up path by name."""

CONTEXTS: dict[str, Callable[[Convention, int, int], nn.Module]] = {
    "ppm": lambda by, c5, n: by.ppm(c5, n),
    "non_local": lambda _, c5, n: NonLocal(c5, n),
    "dense_aspp": lambda _, c5, n: DenseASPP(c5, n),
}
"""Context modules by name: (convention, channels of C5, width) -> module on C5."""

Part = TypeVar("Part")


class DRFPN(StepNeck):
    """Dual Refinement Feature Pyramid: SRB on the way down, CRB on the way up, PPM on top (Figure 3a).

    A drop-in for FPN: same maps in, same names and sizes out. By default it begins as an FPN with the same lateral and
    3x3 convolutions, bit for bit, and omega and the gates are bounded, so that it trains at FPN's learning rate and
    warm-up. The number of parameters is the same in every convention.

    =================  ===============================  ==========================  =============================
    convention         ``"bounded"`` (default)          ``"paper"``                 ``"release"``
    =================  ===============================  ==========================  =============================
    SRB reads          maps divided by their root       maps                        maps
                       mean squares
    omega              tanh, -1 to 1                    no bound                    no bound
    unit of offsets    2 / (H + W)                      2 / (H + W) (Eq. 2)         1 / W, 1 / H
    grid, outside      pixel centers, border repeats    as bounded                  corners at -1 and 1, zeros
    gates              2 sigmoid, of averages divided   convolution, no bound       convolution, BatchNorm, ReLU
                       by their root mean square        (Eq. 5)
    conv5, conv6       beside a shortcut                plain                       conv5: BatchNorm, ReLU
    PPM                added to the reduced map         concatenation, 1x1, ReLU    as paper
    starts as FPN      exactly                          within a factor of 2        within a factor of 2
    =================  ===============================  ==========================  =============================

    ``"paper"`` and ``"release"`` can diverge: a step of omega and of the paper's gates grows with the square of the
    scale of the maps, and what they multiply grows with them. On photographs with large objects ``"paper"`` diverges
    in the warm-up at a learning rate at which FPN trains; lower the rate, or use ``"bounded"``.

    Args:
        in_channels: channels of the backbone's maps, finest first.
        out_channels: channels of every level that leaves.
        extra_blocks: torchvision's ``ExtraFPNBlock``.
        context: module on the coarsest map: a name of ``CONTEXTS``, ``None`` for a plain 1x1 convolution, or a module
            that maps (N, in_channels[-1], H, W) to (N, out_channels, H, W).
        convention: ``"bounded"``; ``"paper"``, which follows the equations; ``"release"``, which follows the authors'
            code where it differs from them.
        top_down: step of the top-down path: a name of ``TOP_DOWN``, or what makes one for a number of channels.
        bottom_up: step of the bottom-up path: a name of ``BOTTOM_UP``, what makes one, or ``None`` for no such path.

    Raises:
        UserError: an unknown context, convention or step.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        extra_blocks: ExtraFPNBlock | None = None,
        *,
        context: str | nn.Module | None = "ppm",
        convention: str = DEFAULT_CONVENTION,
        top_down: str | Step = "srb",
        bottom_up: str | Step | None = "crb",
    ) -> None:
        by = _choose("convention", convention, CONVENTIONS)
        if isinstance(context, str):
            context = _choose("context", context, CONTEXTS, "None", "a module")(by, in_channels[-1], out_channels)
        if isinstance(top_down, str):
            top_down = partial(_choose("top_down", top_down, TOP_DOWN, "what makes a step"), by)
        if isinstance(bottom_up, str):
            bottom_up = partial(_choose("bottom_up", bottom_up, BOTTOM_UP, "None", "what makes a step"), by)
        super().__init__(
            in_channels,
            out_channels,
            extra_blocks,
            top=context,
            top_down=top_down,
            bottom_up=bottom_up,
            smooth_up=by.smooth_up,
        )


def _choose(key: str, name: str, parts: Mapping[str, Part], *others: str) -> Part:
    if not isinstance(name, str) or name not in parts:
        *first, last = [*(repr(part) for part in parts), *others]
        raise UserError(f"{key} must be {', '.join(first)} or {last}, not {name!r}.{did_you_mean(str(name), parts)}")
    return parts[name]
