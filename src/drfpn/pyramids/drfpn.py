"""DRFPN: the pyramid of Dual Refinement Feature Pyramid Networks (arXiv:2012.01733)."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

from torch import nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.errors import UserError, nearest
from drfpn.ops import Warp, warp, warp_released
from drfpn.pyramids import guides
from drfpn.pyramids.base import Pyramid, Step
from drfpn.pyramids.context import PyramidPoolingModule
from drfpn.pyramids.crb import ChannelRefinement, ChannelRefinementBlock
from drfpn.pyramids.dense_aspp import DenseASPP
from drfpn.pyramids.fpn import NearestAdd, StrideAdd
from drfpn.pyramids.non_local import NonLocal
from drfpn.pyramids.srb import SpatialRefinementBlock
from drfpn.pyramids.variants import (
    GlobalInformationRefinement,
    RefinedFirst,
    SamplingPointOffset,
    SpatialRefinementUpwards,
)


class Convention(NamedTuple):
    """A reading of the method: what SRB and CRB are made from."""

    warp: Warp
    refinement: Callable[[int], ChannelRefinement]
    crb: Callable[..., ChannelRefinementBlock]
    """(channels, guide=...) -> CRB."""


CONVENTIONS = {
    "paper": Convention(warp, ChannelRefinement.paper, ChannelRefinementBlock.paper),
    "release": Convention(warp_released, ChannelRefinement.release, ChannelRefinementBlock.release),
}

TOP_DOWN: dict[str, Callable[[Convention, int], nn.Module]] = {
    "nearest": lambda _, n: NearestAdd(),
    "srb": lambda by, n: SpatialRefinementBlock(n, by.warp),
    "srb_from_fine": lambda by, n: SpatialRefinementBlock(n, by.warp, guides.FromTarget),
    "srb_from_coarse": lambda by, n: SpatialRefinementBlock(n, by.warp, guides.FromCoarse),
    "srb_from_sum": lambda by, n: SpatialRefinementBlock(n, by.warp, guides.Added),
    "srb_offset": lambda by, n: SamplingPointOffset(n, by.warp),
    "srb_weight": lambda by, n: GlobalInformationRefinement(n, by.warp),
    "crb": lambda by, n: RefinedFirst(by.refinement(n), NearestAdd()),
    "crb_srb": lambda by, n: RefinedFirst(by.refinement(n), SpatialRefinementBlock(n, by.warp)),
}
"""Steps of the top-down path by name."""

BOTTOM_UP: dict[str, Callable[[Convention, int], nn.Module]] = {
    "stride": lambda _, n: StrideAdd(n),
    "crb": lambda by, n: by.crb(n),
    "crb_from_coarse": lambda by, n: by.crb(n, guide=guides.CoarseAverage),
    "crb_from_sum": lambda by, n: by.crb(n, guide=guides.SumAverage),
    "crb_from_both": lambda by, n: by.crb(n, guide=guides.ConcatenatedAverage),
    "srb": lambda by, n: SpatialRefinementUpwards(n, by.warp),
}
"""Steps of the bottom-up path by name."""

CONTEXTS: dict[str, Callable[[int, int], nn.Module]] = {
    "ppm": PyramidPoolingModule,
    "non_local": NonLocal,
    "dense_aspp": DenseASPP,
}
"""Context modules by name: (channels of C5, width) -> module on C5."""

Part = TypeVar("Part")


class DRFPN(Pyramid):
    """Dual Refinement Feature Pyramid: SRB on the way down, CRB on the way up, PPM on top (Figure 3a).

    A drop-in for FPN: same maps in, same names and sizes out. It begins close to FPN (see
    :class:`SpatialRefinementBlock` and :class:`ChannelRefinementBlock` for the starting values), so that it can be
    put into a detector without another learning rate or a longer warm-up.

    Args:
        in_channels: channels of the backbone's maps, finest first.
        out_channels: channels of every level that leaves.
        extra_blocks: torchvision's ``ExtraFPNBlock``.
        context: module on the coarsest map: a name of ``CONTEXTS``, ``None`` for a plain 1x1 convolution, or a module
            that maps (N, in_channels[-1], H, W) to (N, out_channels, H, W).
        convention: ``"paper"`` follows the equations; ``"release"`` the authors' code where it differs: unit of the
            offset, sampling grid, BatchNorm and ReLU in CRB.
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
        convention: str = "paper",
        top_down: str | Step = "srb",
        bottom_up: str | Step | None = "crb",
    ) -> None:
        by = _choose("convention", convention, CONVENTIONS)
        if isinstance(context, str):
            context = _choose("context", context, CONTEXTS, "None", "a module")(in_channels[-1], out_channels)
        if isinstance(top_down, str):
            top_down = partial(_choose("top_down", top_down, TOP_DOWN, "what makes a step"), by)
        if isinstance(bottom_up, str):
            bottom_up = partial(_choose("bottom_up", bottom_up, BOTTOM_UP, "None", "what makes a step"), by)
        super().__init__(in_channels, out_channels, extra_blocks, top=context, top_down=top_down, bottom_up=bottom_up)


def _choose(key: str, name: str, parts: Mapping[str, Part], *others: str) -> Part:
    if not isinstance(name, str) or name not in parts:
        *first, last = [*(repr(part) for part in parts), *others]
        raise UserError(f"{key} must be {', '.join(first)} or {last}, not {name!r}.{nearest(str(name), parts)}")
    return parts[name]
