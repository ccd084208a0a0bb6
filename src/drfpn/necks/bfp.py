"""Libra R-CNN's balanced feature pyramid (Pang et al., CVPR 2019, arXiv:1904.02701)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.necks.base import StepNeck
from drfpn.necks.fpn import NearestAdd
from drfpn.necks.layers.non_local import Attention
from drfpn.ops import adaptive_max_pool


class BalancedFeatures(nn.Module):
    """Adds to every level what all of them together know (BFP).

    All levels are brought to the size of one of them (max-pooled if finer, nearest neighbours if coarser), averaged,
    refined by a non-local block, brought back to each level's size the same way, and added there.

    Args:
        channels: width of the levels.
        gather: index of the level whose size the mean has.
    """

    def __init__(self, channels: int, gather: int) -> None:
        super().__init__()
        self.gather = gather
        self.refine = Attention(channels, channels)

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """Map levels (N, C, H, W), finest first, to the same shapes."""
        size = levels[self.gather].shape[-2:]
        mean = torch.stack([self._resize(m, size, i < self.gather) for i, m in enumerate(levels)]).mean(0)
        refined = self.refine(mean)
        return [m + self._resize(refined, m.shape[-2:], i > self.gather) for i, m in enumerate(levels)]

    def _resize(self, m: Tensor, size: Sequence[int], shrinks: bool) -> Tensor:
        return adaptive_max_pool(m, size) if shrinks else F.interpolate(m, size=size, mode="nearest")


class LibraFPN(StepNeck):
    """FPN with a balanced feature pyramid behind it, over the extra levels too.

    In detectors of two stages these are P2..P5 and the max-pooled P6, in those of one stage P3..P7, as in the
    release; the mean always has the size of P4. Libra R-CNN's other parts are options of the detectors:
    ``box_loss="balanced_l1"`` and ``sampler="iou_balanced"``.

    Args: as :class:`drfpn.FPN`.
    """

    def __init__(
        self, in_channels: Sequence[int], out_channels: int = 256, extra_blocks: ExtraFPNBlock | None = None
    ) -> None:
        balance = BalancedFeatures(out_channels, gather=max(0, len(in_channels) - 2))
        super().__init__(in_channels, out_channels, extra_blocks, top_down=lambda _: NearestAdd(), refine=balance)
