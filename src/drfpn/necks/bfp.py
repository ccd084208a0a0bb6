"""BFP: the Balanced Feature Pyramid of Libra R-CNN (Pang et al., CVPR 2019, arXiv:1904.02701)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.necks.base import StepNeck
from drfpn.necks.layers.fusion import NearestAdd
from drfpn.necks.layers.non_local import Attention
from drfpn.ops import adaptive_max_pool


class BalancedFeatures(nn.Module):
    """Adds the refined mean of all levels to every level.

    1. All levels are resized to one of them, by max pooling if finer and nearest-neighbor upsampling if coarser.
    2. Their mean is refined by a non-local block.
    3. The result is resized to each level in the same way, and added.

    Args:
        channels: width of the levels.
        refine_level: index of the level at whose size the mean is computed.
    """

    def __init__(self, channels: int, refine_level: int) -> None:
        super().__init__()
        self.refine_level = refine_level
        self.refine = Attention(channels, channels)

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """Map levels (N, C, H, W), finest first, to the same shapes."""
        size = levels[self.refine_level].shape[-2:]
        mean = torch.stack([_resize(m, size, i < self.refine_level) for i, m in enumerate(levels)]).mean(0)
        refined = self.refine(mean)
        return [m + _resize(refined, m.shape[-2:], i > self.refine_level) for i, m in enumerate(levels)]


def _resize(m: Tensor, size: Sequence[int], downsample: bool) -> Tensor:
    return adaptive_max_pool(m, size) if downsample else F.interpolate(m, size=size, mode="nearest")


class BFP(StepNeck):
    """FPN followed by Libra R-CNN's Balanced Feature Pyramid, which includes the extra levels.

    In two-stage detectors these are P2 to P5 and the max-pooled P6, in one-stage detectors P3 to P7, as in the
    authors' code; the mean is computed at the size of P4. Libra R-CNN's other parts are options of the detectors:
    ``box_loss="balanced_l1"`` and ``sampler="iou_balanced"``.

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
        balance = BalancedFeatures(out_channels, refine_level=max(0, len(in_channels) - 2))
        super().__init__(in_channels, out_channels, extra_blocks, top_down=lambda _: NearestAdd(), refine=balance)
