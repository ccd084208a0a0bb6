"""DySample: FPN with dynamic upsampling at predicted positions (Liu et al., ICCV 2023, arXiv:2308.15085)."""

from collections.abc import Sequence

from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.necks.base import StepNeck
from drfpn.necks.layers.fusion import UpsampledAdd
from drfpn.necks.layers.upsamplers import DySampleUpsampler


class DySample(StepNeck):
    """FPN whose top-down path upsamples by DySample.

    Args:
        in_channels: channels of the backbone's maps, finest first.
        out_channels: channels of every output level, a multiple of ``groups``.
        extra_blocks: torchvision's ``ExtraFPNBlock``, called with (levels, backbone maps, names); ``None`` for none.
        groups: groups of channels, each with its own offsets.
        dynamic_scope: whether the scope factor of the offsets is predicted (DySample+) or 1 / 4.

    Raises:
        UsageError: channels of fewer than two maps, or ``out_channels`` that is not a multiple of ``groups``.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        extra_blocks: ExtraFPNBlock | None = None,
        *,
        groups: int = 4,
        dynamic_scope: bool = False,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            extra_blocks,
            top_down=lambda channels: UpsampledAdd(DySampleUpsampler(channels, groups, dynamic_scope=dynamic_scope)),
        )
