"""CARAFE: FPN with content-aware upsampling (Wang et al., ICCV 2019, arXiv:1905.02188)."""

from collections.abc import Sequence
from typing import Literal

from torch import nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.necks.base import CoarserLevels, StepNeck, check_channels
from drfpn.necks.layers.convs import init_convs
from drfpn.necks.layers.extra_levels import extra_level_names
from drfpn.necks.layers.fusion import UpsampledAdd
from drfpn.necks.layers.upsamplers import CARAFEUpsampler
from drfpn.utils.errors import UsageError


class CARAFE(StepNeck):
    """FPN whose top-down path upsamples by CARAFE.

    Args:
        in_channels: channels of the backbone's maps, finest first.
        out_channels: channels of every output level.
        extra_blocks: torchvision's ``ExtraFPNBlock``, called with (levels, backbone maps, names); ``None`` for none.
            With ``layout="mmdet"`` it is not called, and only the names of its levels are used.
        layout: ``"fpn"`` is FPN with another upsampler. ``"mmdet"`` is the neck that mmdetection measured: the levels
            beyond the backbone's are 3x3 convolutions of stride 2 on C5, take part in the top-down path and have their
            own 3x3 convolutions. Most of the parameters that it adds to FPN are those of these levels, not CARAFE's.

    Raises:
        UsageError: channels of fewer than two maps, an unknown layout, or ``"mmdet"`` with an ``extra_blocks`` whose
            levels are not known.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        extra_blocks: ExtraFPNBlock | None = None,
        *,
        layout: Literal["fpn", "mmdet"] = "fpn",
    ) -> None:
        if layout not in ("fpn", "mmdet"):
            raise UsageError(f"`layout` must be 'fpn' or 'mmdet', not {layout!r}.")
        check_channels(in_channels)
        coarser = None
        if layout == "mmdet":
            coarser = strided_levels(in_channels[-1], out_channels, extra_level_names(extra_blocks))
        super().__init__(
            in_channels,
            out_channels,
            extra_blocks,
            top_down=lambda channels: UpsampledAdd(CARAFEUpsampler(channels)),
            coarser=coarser,
        )


def strided_levels(in_channels: int, out_channels: int, names: Sequence[str]) -> CoarserLevels:
    """Make coarser levels by 3x3 convolutions of stride 2, each from the level before it.

    Args:
        in_channels: channels of C5.
        out_channels: channels of these levels.
        names: their names.
    """
    channels = [in_channels, *(out_channels for _ in names)]
    convs = [nn.Conv2d(n, out_channels, 3, stride=2, padding=1) for n in channels[: len(names)]]
    coarser = CoarserLevels(convs, names)
    init_convs(coarser)
    return coarser
