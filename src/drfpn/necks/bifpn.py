"""BiFPN: the pyramid of EfficientDet (Tan et al., CVPR 2020, arXiv:1911.09070)."""

from collections.abc import Sequence
from functools import partial, reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.necks.base import Coarser, Neck, check_channels, crop_like, init_convs
from drfpn.necks.layers.extra_levels import names_added
from drfpn.necks.layers.norm import BatchNorm
from drfpn.utils.errors import UserError

Norm = partial(BatchNorm, eps=1e-3)


class Node(nn.Module):
    r"""Joins maps of one size by weights that learn, then convolves them (fast normalised fusion).

    .. math::
        \mathrm{conv}\left(\mathrm{SiLU}\left(\sum_i \frac{w_i}{\epsilon + \sum_j w_j} m_i\right)\right),
        \quad w_i = \mathrm{ReLU}(v_i), \epsilon = 10^{-4}

    The convolution is a depthwise 3x3 one (no bias), a 1x1 one and BatchNorm. Each w begins at 1.

    Args:
        channels: of the maps.
        inputs: how many maps.
    """

    def __init__(self, channels: int, inputs: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(inputs))
        self.conv = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
            nn.Conv2d(channels, channels, 1),
            Norm(channels),
        )
        init_convs(self.conv)

    def forward(self, *maps: Tensor) -> Tensor:
        """Join maps (N, C, H, W)."""
        weights = self.weights.relu()
        weights = weights / (weights.sum() + 1e-4)
        # added one by one: stacked, channels_last maps would lose their layout
        joined = reduce(torch.add, [weight * m for weight, m in zip(weights, maps, strict=True)])
        return self.conv(F.silu(joined))


class BiFPNLayer(nn.Module):
    """Hands content from the coarsest level to the finest and back, with a shortcut past the way down.

    Upsampling is nearest, downsampling the largest of 3x3 pixels with one pixel around the map, so that a pixel lies in
    the middle of those that it is made from.

    Args:
        channels: of each level.
        levels: how many.
    """

    def __init__(self, channels: int, levels: int) -> None:
        super().__init__()
        self.down = nn.ModuleList(Node(channels, 2) for _ in range(levels - 1))
        inputs = [3] * (levels - 2) + [2]  # the coarsest level has no node on the way down
        self.up = nn.ModuleList(Node(channels, n) for n in inputs)

    def forward(self, on_the_way_down: list[Tensor], on_the_way_up: list[Tensor]) -> list[Tensor]:
        """Return the levels, finest first, from what each of the two ways is given; mostly that is the same."""
        p = list(on_the_way_down)
        for i in reversed(range(len(self.down))):
            p[i] = self.down[i](p[i], F.interpolate(p[i + 1], size=p[i].shape[-2:], mode="nearest"))
        beside = [*zip(on_the_way_up[1:-1], p[1:-1], strict=True), (on_the_way_up[-1],)]
        n = [p[0]]
        for node, maps in zip(self.up, beside, strict=True):
            n.append(node(*maps, crop_like(F.max_pool2d(n[-1], 3, stride=2, padding=1), maps[0])))
        return n


class BiFPNPath(nn.Module):
    """Layers of BiFPN, one behind the other.

    Args:
        channels: of each level.
        levels: how many.
        repeats: layers.
    """

    def __init__(self, channels: int, levels: int, repeats: int) -> None:
        super().__init__()
        self.channels = channels
        self.layers = nn.ModuleList(BiFPNLayer(channels, levels) for _ in range(repeats))

    def forward(self, laterals: list[Tensor]) -> list[Tensor]:
        """Return the levels; of laterals with twice the channels each way takes its half."""
        down, up = [m[:, : self.channels] for m in laterals], [m[:, -self.channels :] for m in laterals]
        for layer in self.layers:
            down = up = layer(down, up)
        return up


class BiFPN(Neck):
    """Bidirectional Feature Pyramid Network: all levels, P6 and P7 too, exchange their content several times.

    The levels that ``extra_blocks`` would add take part, so they are made before: a 1x1 convolution of C5 and
    max-pooling; ``extra_blocks`` only says which these are. RetinaNet and FCOS get P3 to P7 as in EfficientDet,
    two-stage detectors P2 to P6.

    Each map of the backbone but the finest has two projections (1x1, BatchNorm), one for each way of the first layer.

    Differs from the authors' code: running statistics move by a tenth a step, not a hundredth, of which a training of
    200 steps would see a mixture with those of its beginning (AP 5 in place of 22).

    Args:
        in_channels: channels of the backbone's maps, finest first.
        out_channels: channels of every level that leaves.
        extra_blocks: torchvision's ``ExtraFPNBlock``.
        repeats: layers.

    Raises:
        UserError: no layer, or extra blocks of one's own.
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
            raise UserError(f"repeats counts the layers of BiFPN and must be at least 1, not {repeats}.")
        names = names_added(extra_blocks)
        levels = len(in_channels) + len(names)
        twice = [projection(channels, 2 * out_channels) for channels in in_channels[1:]]
        super().__init__(
            in_channels,
            out_channels,
            lateral=[projection(in_channels[0], out_channels), *twice],
            smooth=[nn.Identity() for _ in range(levels)],
            top_down=BiFPNPath(out_channels, levels, repeats),
            coarser=pooled_levels(in_channels[-1], out_channels, extra_blocks),
        )


def projection(in_channels: int, out_channels: int) -> nn.Sequential:
    """Make the 1x1 convolution with BatchNorm that brings a map to a width."""
    layers = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1), Norm(out_channels))
    init_convs(layers)
    return layers


def pooled_levels(in_channels: int, out_channels: int, extra_blocks: ExtraFPNBlock | None) -> Coarser:
    """Make the levels that ``extra_blocks`` would add of a projection and max-pooling, each from the one before."""
    names = names_added(extra_blocks)
    pools: list[nn.Module] = [nn.MaxPool2d(3, stride=2, padding=1) for _ in names]
    pools[:1] = [nn.Sequential(projection(in_channels, out_channels), pool) for pool in pools[:1]]
    return Coarser(pools, names, instead_of=extra_blocks)
