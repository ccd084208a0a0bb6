"""FPN: Feature Pyramid Network (Lin et al., CVPR 2017, arXiv:1612.03144)."""

from collections.abc import Sequence

from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.necks.base import StepNeck
from drfpn.necks.layers.fusion import NearestAdd


class FPN(StepNeck):
    """Feature Pyramid Network: 1x1 laterals, nearest-neighbor upsampling and addition, a 3x3 convolution per level.

    With the same weights it computes the same numbers as ``torchvision.ops.FeaturePyramidNetwork``.

    Args:
        in_channels: channels of the backbone's maps, finest first.
        out_channels: channels of every output level.
        extra_blocks: torchvision's ``ExtraFPNBlock``, called with (levels, backbone maps, names); ``None`` for none.

    Raises:
        UsageError: channels of fewer than two maps.
    """

    def __init__(
        self, in_channels: Sequence[int], out_channels: int = 256, extra_blocks: ExtraFPNBlock | None = None
    ) -> None:
        super().__init__(in_channels, out_channels, extra_blocks, top_down=lambda _: NearestAdd())
