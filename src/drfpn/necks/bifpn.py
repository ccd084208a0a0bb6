"""BiFPN: the bidirectional neck of EfficientDet (Tan et al., CVPR 2020, arXiv:1911.09070)."""

from collections.abc import Sequence
from functools import partial, reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.necks.base import CoarserLevels, Neck, check_channels
from drfpn.necks.layers.conv_norm import conv1x1_norm
from drfpn.necks.layers.convs import init_convs
from drfpn.necks.layers.extra_levels import extra_level_names
from drfpn.necks.layers.norm import BatchNorm
from drfpn.ops import crop_like
from drfpn.utils.errors import UsageError

NORM_EPS = 1e-3
"""Epsilon of all BatchNorms, as in the authors' code."""

projection = partial(conv1x1_norm, bias=True, eps=NORM_EPS)
"""Makes the 1x1 convolution and BatchNorm on a map of the backbone."""


class FusionNode(nn.Module):
    r"""Fast normalized fusion of maps of one size, followed by a separable convolution.

    .. math::
        \mathrm{conv}\left(\mathrm{SiLU}\left(\sum_i \frac{w_i}{\epsilon + \sum_j w_j} m_i\right)\right),
        \quad w_i = \mathrm{ReLU}(v_i), \epsilon = 10^{-4}

    The convolution is a depthwise 3x3 without bias, a 1x1 and BatchNorm. All v are initialized with 1.

    Args:
        channels: channels of the maps.
        inputs: number of maps.
    """

    def __init__(self, channels: int, inputs: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(inputs))
        self.conv = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
            nn.Conv2d(channels, channels, 1),
            BatchNorm(channels, eps=NORM_EPS),
        )
        init_convs(self.conv)

    def forward(self, *maps: Tensor) -> Tensor:
        """Fuse maps (N, C, H, W) into one of the same shape."""
        weights = self.weights.relu()
        weights = weights / (weights.sum() + 1e-4)
        # added one by one: stacking would change the memory format of channels_last maps
        fused = reduce(torch.add, [weight * m for weight, m in zip(weights, maps, strict=True)])
        return self.conv(F.silu(fused))


class BiFPNLayer(nn.Module):
    """One BiFPN layer: a top-down path, then a bottom-up path that also reads the layer's inputs.

    Upsampling is nearest-neighbor; downsampling is 3x3 max pooling with stride 2 and padding 1.

    Args:
        channels: width of the levels.
        levels: number of levels.
    """

    def __init__(self, channels: int, levels: int) -> None:
        super().__init__()
        self.down = nn.ModuleList(FusionNode(channels, 2) for _ in range(levels - 1))
        inputs = [3] * (levels - 2) + [2]  # the coarsest level has no top-down node
        self.up = nn.ModuleList(FusionNode(channels, n) for n in inputs)

    def forward(self, top_down: list[Tensor], bottom_up: list[Tensor]) -> list[Tensor]:
        """Return the output levels.

        Args:
            top_down: levels (N, C, H, W) that the top-down path reads, finest first.
            bottom_up: levels of the same shapes that the bottom-up path reads; the same ones in all layers but the
                first.
        """
        p = list(top_down)
        for i in reversed(range(len(self.down))):
            p[i] = self.down[i](p[i], F.interpolate(p[i + 1], size=p[i].shape[-2:], mode="nearest"))
        inputs = [*zip(bottom_up[1:-1], p[1:-1], strict=True), (bottom_up[-1],)]
        n = [p[0]]
        for node, maps in zip(self.up, inputs, strict=True):
            n.append(node(*maps, crop_like(F.max_pool2d(n[-1], 3, stride=2, padding=1), maps[0])))
        return n


class BiFPNPath(nn.Module):
    """A stack of BiFPN layers.

    Args:
        channels: width of the levels.
        levels: number of levels.
        repeats: number of layers.
    """

    def __init__(self, channels: int, levels: int, repeats: int) -> None:
        super().__init__()
        self.channels = channels
        self.layers = nn.ModuleList(BiFPNLayer(channels, levels) for _ in range(repeats))

    def forward(self, laterals: list[Tensor]) -> list[Tensor]:
        """Return the output levels (N, channels, H, W), finest first.

        Args:
            laterals: one map for each level, finest first, with ``channels`` channels, or twice as many: those of the
                first layer's top-down path, then those of its bottom-up path.
        """
        down, up = [m[:, : self.channels] for m in laterals], [m[:, -self.channels :] for m in laterals]
        for layer in self.layers:
            down = up = layer(down, up)
        return up


class BiFPN(Neck):
    """Bidirectional Feature Pyramid Network: weighted fusion in both directions, repeated, with P6 and P7 as levels.

    The extra levels take part in the fusion, so they are made before it, by a 1x1 convolution of C5 and max pooling;
    of ``extra_blocks`` only the names of its levels are used. RetinaNet and FCOS have P3 to P7 as in EfficientDet,
    two-stage detectors P2 to P6.

    Each of the backbone's maps but the finest has two projections (1x1, BatchNorm), one for each path of the first
    layer.

    Differs from the authors' code: the momentum of BatchNorm is 0.1, not 0.01. With 0.01, running statistics after a
    training of 200 steps are still a mixture with their initial values (AP 5 instead of 22).

    Args:
        in_channels: channels of the backbone's maps, finest first.
        out_channels: channels of every output level.
        extra_blocks: torchvision's ``ExtraFPNBlock``, whose level names are used; ``None`` for no extra levels.
        repeats: number of BiFPN layers.

    Raises:
        UsageError: channels of fewer than two maps, no layer, or an ``extra_blocks`` whose levels are not known.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        extra_blocks: ExtraFPNBlock | None = None,
        *,
        repeats: int = 3,
    ) -> None:
        check_channels(in_channels)
        if repeats < 1:
            raise UsageError(f"`repeats`, the number of BiFPN layers, must be at least 1, not {repeats}.")
        names = extra_level_names(extra_blocks)
        levels = len(in_channels) + len(names)
        projections = [projection(channels, 2 * out_channels) for channels in in_channels[1:]]
        super().__init__(
            in_channels,
            out_channels,
            lateral=[projection(in_channels[0], out_channels), *projections],
            smooth=[nn.Identity() for _ in range(levels)],
            top_down=BiFPNPath(out_channels, levels, repeats),
            coarser=pooled_levels(in_channels[-1], out_channels, names),
            extra_blocks=extra_blocks,
        )


def pooled_levels(in_channels: int, out_channels: int, names: Sequence[str]) -> CoarserLevels:
    """Make coarser levels by max pooling, each from the level before it, the first behind a projection of C5.

    Args:
        in_channels: channels of C5.
        out_channels: channels of these levels.
        names: their names.
    """
    pools: list[nn.Module] = [nn.MaxPool2d(3, stride=2, padding=1) for _ in names]
    pools[:1] = [nn.Sequential(projection(in_channels, out_channels), pool) for pool in pools[:1]]
    return CoarserLevels(pools, names)
