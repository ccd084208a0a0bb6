"""FPN with deformable convolutions on its levels: "FPN w/ DCN" of the DRFPN paper's Table 4."""

from collections.abc import Sequence

from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.necks.base import StepNeck
from drfpn.necks.layers.dcn import DeformableConv
from drfpn.necks.layers.fusion import NearestAdd


class DeformableFPN(StepNeck):
    """FPN whose 3x3 convolution on each level is deformable (DCN; Dai et al., ICCV 2017, arXiv:1703.06211).

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
        super().__init__(
            in_channels, out_channels, extra_blocks, top_down=lambda _: NearestAdd(), smooth=DeformableConv
        )
