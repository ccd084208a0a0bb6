"""AugFPN's pyramid (Guo et al., CVPR 2020, arXiv:1912.05384)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.necks.base import StepNeck, init_convs
from drfpn.necks.fpn import NearestAdd
from drfpn.ops import adaptive_average_pool, opaque, upsample_corners

LATERAL = "lateral_"
"""What the names of laterals begin with, see ``AugFPN.hands_on_laterals``."""


class ResidualFeatureAugmentation(nn.Module):
    """Looks at C5 more coarsely (RFA): what its reduction to the pyramid's width loses is given back as context.

    C5 is averaged over grids of a tenth, two and three tenths of its height and width, each passes a 1x1 convolution
    of its own and is upsampled bilinearly (corners aligned, as in the release); at each pixel they are added with
    weights between 0 and 1, which are predicted from all of them (adaptive spatial fusion).

    Args:
        in_channels: channels of C5.
        out_channels: width of the pyramid.
        shares: of C5's height and width, a grid each; at least one cell.
    """

    def __init__(self, in_channels: int, out_channels: int, shares: Sequence[float] = (0.1, 0.2, 0.3)) -> None:
        super().__init__()
        self.shares = tuple(shares)
        self.project = nn.ModuleList(nn.Conv2d(in_channels, out_channels, 1) for _ in shares)
        self.weigh = nn.Sequential(
            nn.Conv2d(len(self.shares) * out_channels, out_channels, 1),
            nn.ReLU(),
            nn.Conv2d(out_channels, len(self.shares), 3, padding=1),
        )
        init_convs(self)

    def forward(self, c: Tensor) -> Tensor:
        """Turn C5 (N, in_channels, H, W) into what is added to its lateral, (N, out_channels, H, W)."""
        size = c.shape[-2:]
        contexts = []
        for share, conv in zip(self.shares, self.project, strict=True):
            cells = [opaque(torch.sym_max(1, torch.sym_int(side * share)), most=256) for side in size]
            pooled = conv(adaptive_average_pool(c, cells))
            contexts.append(upsample_corners(pooled, size))
        weights = self.weigh(torch.cat(contexts, dim=1)).sigmoid()  # (N, shares, H, W)
        return (weights[:, :, None] * torch.stack(contexts, dim=1)).sum(dim=1)


class AugFPN(StepNeck):
    """FPN with residual feature augmentation of its coarsest lateral.

    AugFPN's other parts belong to the detector: ``consistent_supervision`` and ``region_pool="soft"`` of Faster and
    Mask R-CNN, on in those of this name. The release's RetinaNet also adds the mean of what is added here to P6.

    Args: as :class:`drfpn.FPN`.
    """

    hands_on_laterals = False
    """Whether in training its laterals, as they are before the augmentation, follow its levels: "lateral_0", ..."""

    def __init__(
        self, in_channels: Sequence[int], out_channels: int = 256, extra_blocks: ExtraFPNBlock | None = None
    ) -> None:
        super().__init__(in_channels, out_channels, extra_blocks, top_down=lambda _: NearestAdd())
        self.augment = ResidualFeatureAugmentation(in_channels[-1], out_channels)

    def join(self, laterals: list[Tensor], c: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        """Return levels and their names, and behind them the laterals in training where they are wanted."""
        augmented = [*laterals[:-1], laterals[-1] + self.augment(c[-1])]
        behind = [LATERAL + name for name in names]  # now, since torchvision's blocks add their names to this list
        n, names = super().join(augmented, c, names)
        if self.training and self.hands_on_laterals:
            return [*n, *laterals], [*names, *behind]
        return n, names
