"""What guides a refinement: which of the two maps its numbers are predicted from (Tables 5 and 6 of the paper).

SRB's guides project a map first and then pass the projection and the map to their ``norm``: :func:`unscaled` leaves the
projection as it is, :func:`over_rms` divides it by the scale of the map.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drfpn.necks.base import crop_like, init_convs
from drfpn.ops import root_mean_square

SHARE = 0.1
"""Of Kaiming's size: what the projections of SRB begin with, see ``SpatialRefinementBlock``."""


Norm = Callable[[Tensor, Tensor], Tensor]
"""Maps (projection of a map, the map) to the projection at the scale to be read."""


def unscaled(projected: Tensor, m: Tensor) -> Tensor:
    """Return ``projected`` as it is."""
    return projected


def over_rms(projected: Tensor, m: Tensor) -> Tensor:
    """Divide ``projected`` by the root mean square of ``m``, from which it was projected without a bias.

    The same as projecting ``m`` divided by its root mean square, without writing that map.
    """
    return projected / root_mean_square(m)


class SpatialGuide(nn.Module):
    """Maps (target, source), the map that is added to and the one that is sampled, to features of the target's size.

    All of them are linear: what a linear layer reads of the features can be had without writing them down.
    """

    channels: int
    """Of the features."""

    def read(self, target: Tensor, source: Tensor, weight: Tensor) -> Tensor:
        """Return what a 1x1 convolution of ``weight`` (K, channels) makes of the features: (N, K, H, W)."""
        return F.conv2d(self(target, source), weight[:, :, None, None])


class TargetProjection(SpatialGuide):
    """Projects the map that is added to, (N, C, H, W), to half its channels (1x1)."""

    def __init__(self, channels: int, norm: Norm = unscaled) -> None:
        super().__init__()
        self.norm = norm
        self.channels = channels // 2
        self.project = projection(channels)

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        """Return (N, C / 2, H, W)."""
        return self.norm(self.project(target), target)

    def read(self, target: Tensor, source: Tensor, weight: Tensor) -> Tensor:
        """Return what a 1x1 convolution of ``weight`` makes of the features: one on ``target``."""
        return self.norm(F.conv2d(target, (weight @ self.project.weight.flatten(1))[:, :, None, None]), target)


class CoarseProjection(SpatialGuide):
    """Projects the coarser map, (N, C, h, w), to half its channels (1x1) and upsamples it (3x3, transposed)."""

    def __init__(self, channels: int, norm: Norm = unscaled) -> None:
        super().__init__()
        self.norm = norm
        self.channels = channels // 2
        self.project = projection(channels)
        self.upsample = nn.ConvTranspose2d(self.channels, self.channels, 3, stride=2, padding=1)
        init_convs(self.upsample)

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        """Return (N, C / 2, H, W), the size of ``target``."""
        return upsample(self.norm(self.project(source), source), target, self.upsample)

    def read(self, target: Tensor, source: Tensor, weight: Tensor) -> Tensor:
        """Return what a 1x1 convolution of ``weight`` makes of the features: another transposed one."""
        kernel = torch.einsum("kc,ichw->ikhw", weight, self.upsample.weight)
        bias = None if self.upsample.bias is None else weight @ self.upsample.bias

        def composed(m: Tensor, size: list[int] | None = None) -> Tensor:
            more = [0, 0] if size is None else [size[i] - 2 * m.shape[2 + i] + 1 for i in (0, 1)]
            return F.conv_transpose2d(m, kernel, bias, stride=2, padding=1, output_padding=more)

        return upsample(self.norm(self.project(source), source), target, composed)


class FineProjection(SpatialGuide):
    """Projects the finer map to half its channels (1x1) and halves its size (3x3, stride 2)."""

    def __init__(self, channels: int, norm: Norm = unscaled) -> None:
        super().__init__()
        self.norm = norm
        self.channels = channels // 2
        self.project = projection(channels)
        self.downsample = nn.Conv2d(self.channels, self.channels, 3, stride=2, padding=1)
        init_convs(self.downsample)

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        """Return (N, C / 2, h, w), the size of ``target``."""
        return crop_like(self.downsample(self.norm(self.project(source), source)), target)


class ConcatGuide(SpatialGuide):
    """Both maps, concatenated: ``cat(F_l, F_h)`` of Table 5, the paper's choice.

    Args:
        channels: width of both maps.
        norm: what brings each map to the scale to be read.
        source: guide made from the map that is sampled.
    """

    def __init__(
        self, channels: int, norm: Norm = unscaled, source: Callable[[int, Norm], SpatialGuide] = CoarseProjection
    ) -> None:
        super().__init__()
        self.channels = channels // 2 * 2
        self.source, self.target = source(channels, norm), TargetProjection(channels, norm)

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        """Return (N, C, H, W), the size of ``target``."""
        return torch.cat([self.source(target, source), self.target(target, source)], dim=1)

    def read(self, target: Tensor, source: Tensor, weight: Tensor) -> Tensor:
        """Return what a 1x1 convolution of ``weight`` makes of the features: the sum of what it makes of each half."""
        of_source, of_target = weight.split([self.source.channels, self.target.channels], dim=1)
        return self.target.read(target, source, of_target).add_(self.source.read(target, source, of_source))


class SumGuide(SpatialGuide):
    """Both maps, added: ``add(F_l, F_h)`` of Table 5."""

    def __init__(self, channels: int, norm: Norm = unscaled) -> None:
        super().__init__()
        self.channels = channels // 2
        self.source, self.target = CoarseProjection(channels, norm), TargetProjection(channels, norm)

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        """Return (N, C / 2, H, W), the size of ``target``."""
        return self.source(target, source) + self.target(target, source)


def upsample(m: Tensor, like: Tensor, convolve: Callable[..., Tensor]) -> Tensor:
    """Double ``m`` (N, C, h, w) to the height and width of ``like``, each twice as large or one more or less.

    Args:
        m: the map.
        like: a map of the size wanted.
        convolve: a transposed 3x3 convolution of stride 2 and padding 1, called with a map and the size wanted if any.
    """
    height, width = like.shape[-2:]
    if not torch.compiler.is_compiling() and height <= 2 * m.shape[-2] and width <= 2 * m.shape[-1]:
        return convolve(m, [height, width])
    # one zero row and column more, then cut: a graph of any size cannot ask which of the three it is
    return crop_like(convolve(F.pad(m, (0, 1, 0, 1))), like)


def projection(channels: int) -> nn.Conv2d:
    """Make the 1x1 convolution that halves the channels before delta and omega are predicted."""
    conv = nn.Conv2d(channels, channels // 2, 1, bias=False)
    init_convs(conv)
    conv.weight.data.mul_(SHARE)
    return conv


class FineAverage(nn.Module):
    """Averages the finer map: the paper's choice for CRB (Eq. 5, ``F_l`` of Table 6)."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Return (N, C, 1, 1)."""
        return average(fine)


class CoarseAverage(nn.Module):
    """Averages the coarser map, as a squeeze-and-excitation block on it would (``F_h`` of Table 6)."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Return (N, C, 1, 1)."""
        return average(coarse)


class SumAverage(nn.Module):
    """Averages the sum of the coarser map and the finer one, halved by a 3x3 convolution (``add`` of Table 6)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        init_convs(self)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Return (N, C, 1, 1)."""
        return average(coarse + crop_like(self.down(fine), coarse))


class ConcatAverage(nn.Module):
    """Averages both maps, the finer one halved by a 3x3 convolution, and reduces them (``cat`` of Table 6).

    The paper reduces the concatenated maps (1x1) before it averages; both are linear, so here the averages are
    reduced, which gives the same numbers for less.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.reduce = nn.Conv2d(2 * channels, channels, 1)
        init_convs(self)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Return (N, C, 1, 1)."""
        return self.reduce(torch.cat([average(crop_like(self.down(fine), coarse)), average(coarse)], dim=1))


def average(m: Tensor) -> Tensor:
    """Average a map (N, C, H, W) over its pixels (GAP): (N, C, 1, 1)."""
    # not mean, whose backward writes a map; float16 cannot hold such a sum
    kind = torch.promote_types(m.dtype, torch.float32)
    return (m.sum((2, 3), keepdim=True, dtype=kind) / (m.shape[2] * m.shape[3])).to(m.dtype)
