"""DRFPN: Dual Refinement Feature Pyramid Networks (Ma and Chen, arXiv:2012.01733)."""

from collections.abc import Callable, Sequence
from functools import partial

from torch import nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.errors import UserError, nearest
from drfpn.ops import warp_released
from drfpn.pyramids.base import Pyramid, Step
from drfpn.pyramids.context import PyramidPoolingModule
from drfpn.pyramids.crb import ChannelRefinementBlock
from drfpn.pyramids.srb import SpatialRefinementBlock

CONTEXTS: dict[str, Callable[[int, int], nn.Module]] = {"ppm": PyramidPoolingModule}
"""Context modules by name: (channels of C5, width) -> module on C5."""

CONVENTIONS: dict[str, tuple[Step, Step]] = {
    "paper": (SpatialRefinementBlock, ChannelRefinementBlock.paper),
    "release": (partial(SpatialRefinementBlock, warp=warp_released), ChannelRefinementBlock.release),
}
"""The two readings of the method: top-down step and bottom-up step."""


class DRFPN(Pyramid):
    """Dual Refinement Feature Pyramid: SRB on the way down, CRB on the way up, PPM on top (Figure 3a).

    A drop-in for FPN: same maps in, same names and sizes out. It begins close to FPN (see
    :class:`SpatialRefinementBlock` and :class:`ChannelRefinementBlock` for the starting values), so that it can be
    put into a detector without another learning rate or a longer warm-up.

    Args:
        in_channels: channels of the backbone's maps, finest first.
        out_channels: channels of every level that leaves.
        extra_blocks: torchvision's ``ExtraFPNBlock``.
        context: module on the coarsest map: ``"ppm"``, ``None`` for a plain 1x1 convolution, or a module that
            maps (N, in_channels[-1], H, W) to (N, out_channels, H, W).
        convention: ``"paper"`` follows the equations; ``"release"`` the authors' code where it differs: unit of the
            offset, sampling grid, BatchNorm and ReLU in CRB.
        top_down: step in place of SRB.
        bottom_up: step in place of CRB.

    Raises:
        UserError: an unknown context or convention.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        extra_blocks: ExtraFPNBlock | None = None,
        *,
        context: str | nn.Module | None = "ppm",
        convention: str = "paper",
        top_down: Step | None = None,
        bottom_up: Step | None = None,
    ) -> None:
        if convention not in CONVENTIONS:
            known = " or ".join(f"'{name}'" for name in CONVENTIONS)
            raise UserError(f"convention must be {known}, not {convention!r}.{nearest(str(convention), CONVENTIONS)}")
        if isinstance(context, str):
            if context not in CONTEXTS:
                known = ", ".join(f"'{name}'" for name in CONTEXTS)
                raise UserError(f"context must be {known}, None or a module, not {context!r}.")
            context = CONTEXTS[context](in_channels[-1], out_channels)
        srb, crb = CONVENTIONS[convention]
        super().__init__(
            in_channels,
            out_channels,
            extra_blocks,
            top=context,
            top_down=top_down or srb,
            bottom_up=bottom_up or crb,
        )
