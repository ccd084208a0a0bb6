"""AugFPN: FPN with residual feature augmentation of C5 (Guo et al., CVPR 2020, arXiv:1912.05384)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.necks.base import StepNeck
from drfpn.necks.layers.convs import init_convs
from drfpn.necks.layers.fusion import NearestAdd
from drfpn.ops import adaptive_average_pool, unbacked_size, upsample_corners


class ResidualFeatureAugmentation(nn.Module):
    """Residual feature augmentation (RFA): context of C5 that is added to its lateral.

    C5 is average-pooled to grids of a tenth, two tenths and three tenths of its height and width. Each grid passes its
    own 1x1 convolution and is upsampled bilinearly (corners aligned, as in the authors' code). At each pixel they are
    added with weights between 0 and 1, which are predicted from all of them (adaptive spatial fusion).

    Args:
        in_channels: channels of C5.
        out_channels: width of the neck.
        ratios: sides of the grids relative to height and width of C5; a grid has at least one cell.
    """

    def __init__(self, in_channels: int, out_channels: int, ratios: Sequence[float] = (0.1, 0.2, 0.3)) -> None:
        super().__init__()
        self.ratios = tuple(ratios)
        self.project = nn.ModuleList(nn.Conv2d(in_channels, out_channels, 1) for _ in ratios)
        self.weigh = nn.Sequential(
            nn.Conv2d(len(self.ratios) * out_channels, out_channels, 1),
            nn.ReLU(),
            nn.Conv2d(out_channels, len(self.ratios), 3, padding=1),
        )
        init_convs(self)

    def forward(self, c: Tensor) -> Tensor:
        """Map C5 (N, in_channels, H, W) to (N, out_channels, H, W)."""
        size = c.shape[-2:]
        contexts = []
        for ratio, conv in zip(self.ratios, self.project, strict=True):
            bins = [unbacked_size(torch.sym_max(1, torch.sym_int(side * ratio)), max_size=256) for side in size]
            pooled = conv(adaptive_average_pool(c, bins))
            contexts.append(upsample_corners(pooled, size))
        weights = self.weigh(torch.cat(contexts, dim=1)).sigmoid()  # (N, ratios, H, W)
        return (weights[:, :, None] * torch.stack(contexts, dim=1)).sum(dim=1)


class AugFPN(StepNeck):
    """FPN with residual feature augmentation of its coarsest lateral.

    AugFPN's other parts belong to the detector: ``consistent_supervision`` and ``roi_pool="soft"`` of Faster and Mask
    R-CNN, which detectors of this name use by default. The authors' RetinaNet also adds the mean of the augmentation
    to P6; this neck does not.

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
        self.augment = ResidualFeatureAugmentation(in_channels[-1], out_channels)

    def merge(self, laterals: list[Tensor], c: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        """Augment the coarsest lateral, then do as :meth:`Neck.merge`."""
        return super().merge([*laterals[:-1], laterals[-1] + self.augment(c[-1])], c, names)

    def forward_with_laterals(self, maps: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the output levels as :meth:`forward` does, and the laterals before the augmentation.

        Args:
            maps: the backbone's maps (N, in_channels[i], H, W) by name, finest first.

        Returns:
            Levels by name, and laterals (N, out_channels, H, W) by the names of the maps.

        Raises:
            UsageError: as :meth:`forward`.
        """
        c = list(maps.values())
        if not torch.compiler.is_compiling():  # as in `forward`
            self._check(list(maps), c)
        laterals = self.project(c)
        levels, names = self.merge(laterals, c, list(maps))
        return dict(zip(names, levels, strict=True)), dict(zip(maps, laterals, strict=True))
