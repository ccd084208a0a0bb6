"""Guides of SRB and CRB: the features, of either map or of both, that they predict from (Tables 5 and 6 of the paper).

SRB's guides project a map first and then pass the projection and the map to their ``norm``: :func:`no_norm` leaves the
projection unchanged, :func:`rms_norm` divides it by the root mean square of the map.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drfpn.necks.layers.convs import init_convs
from drfpn.ops import crop_like, root_mean_square

INIT_SCALE = 0.1
"""Factor of the initial weights of SRB's projections, which are Kaiming uniform; see ``SpatialRefinementBlock``."""


Norm = Callable[[Tensor, Tensor], Tensor]
"""(projection of a map, the map) -> normalized projection."""


def no_norm(projected: Tensor, m: Tensor) -> Tensor:
    """Return ``projected`` unchanged."""
    return projected


def rms_norm(projected: Tensor, m: Tensor) -> Tensor:
    """Divide ``projected`` by the root mean square of ``m``, of which it is a projection without a bias.

    The same as projecting ``m`` divided by its root mean square, without computing that map.
    """
    return projected / root_mean_square(m)


class SpatialGuide(nn.Module):
    """Base class of SRB's guides: maps (target, source) to features of the size of ``target``.

    ``target`` is the map that is added to, ``source`` the one that is sampled. All guides are linear in both up to
    their norm, so that a 1x1 convolution of the features can be composed with them.
    """

    channels: int
    """Number of features."""

    def conv_features(self, target: Tensor, source: Tensor, kernel: Tensor) -> Tensor:
        """Return a 1x1 convolution of the features, in subclasses without computing the features.

        Args:
            target: (N, C, H, W).
            source: (N, C, h, w).
            kernel: (K, channels).

        Returns:
            (N, K, H, W).
        """
        return F.conv2d(self(target, source), kernel[:, :, None, None])


class TargetProjection(SpatialGuide):
    """Guide that projects the map that is added to, to half its channels (1x1).

    Args:
        channels: width of both maps.
        norm: normalizes the projection.
    """

    def __init__(self, channels: int, norm: Norm = no_norm) -> None:
        super().__init__()
        self.norm = norm
        self.channels = channels // 2
        self.project = half_width_projection(channels)

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        """Return features (N, C / 2, H, W) of ``target`` (N, C, H, W)."""
        return self.norm(self.project(target), target)

    def conv_features(self, target: Tensor, source: Tensor, kernel: Tensor) -> Tensor:
        """Return a 1x1 convolution of the features as one of ``target``, see :class:`SpatialGuide`."""
        return self.norm(F.conv2d(target, (kernel @ self.project.weight.flatten(1))[:, :, None, None]), target)


class CoarseProjection(SpatialGuide):
    """Guide that projects the coarser map to half its channels (1x1) and upsamples it (3x3, transposed).

    Args:
        channels: width of both maps.
        norm: normalizes the projection.
    """

    def __init__(self, channels: int, norm: Norm = no_norm) -> None:
        super().__init__()
        self.norm = norm
        self.channels = channels // 2
        self.project = half_width_projection(channels)
        self.upsample = nn.ConvTranspose2d(self.channels, self.channels, 3, stride=2, padding=1)
        init_convs(self.upsample)

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        """Return features (N, C / 2, H, W) of ``source`` (N, C, h, w), in the size of ``target``."""
        return upsample(self.norm(self.project(source), source), target, self.upsample)

    def conv_features(self, target: Tensor, source: Tensor, kernel: Tensor) -> Tensor:
        """Return a 1x1 convolution of the features as a transposed convolution, see :class:`SpatialGuide`."""
        composed = torch.einsum("kc,ichw->ikhw", kernel, self.upsample.weight)
        bias = None if self.upsample.bias is None else kernel @ self.upsample.bias

        def convolve(m: Tensor, size: list[int] | None = None) -> Tensor:
            output_padding = [0, 0] if size is None else [size[i] - 2 * m.shape[2 + i] + 1 for i in (0, 1)]
            return F.conv_transpose2d(m, composed, bias, stride=2, padding=1, output_padding=output_padding)

        return upsample(self.norm(self.project(source), source), target, convolve)


class FineProjection(SpatialGuide):
    """Guide that projects the finer map to half its channels (1x1) and halves its size (3x3, stride 2).

    Args:
        channels: width of both maps.
        norm: normalizes the projection.
    """

    def __init__(self, channels: int, norm: Norm = no_norm) -> None:
        super().__init__()
        self.norm = norm
        self.channels = channels // 2
        self.project = half_width_projection(channels)
        self.downsample = nn.Conv2d(self.channels, self.channels, 3, stride=2, padding=1)
        init_convs(self.downsample)

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        """Return features (N, C / 2, h, w) of ``source`` (N, C, H, W), in the size of ``target``."""
        return crop_like(self.downsample(self.norm(self.project(source), source)), target)


class ConcatGuide(SpatialGuide):
    """Guide that concatenates projections of both maps: ``cat(F_l, F_h)`` of Table 5, the paper's choice.

    Args:
        channels: width of both maps.
        norm: normalizes each projection.
        source: makes the guide of the map that is sampled.
    """

    def __init__(
        self, channels: int, norm: Norm = no_norm, source: Callable[[int, Norm], SpatialGuide] = CoarseProjection
    ) -> None:
        super().__init__()
        self.channels = channels // 2 * 2
        self.source, self.target = source(channels, norm), TargetProjection(channels, norm)

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        """Return features (N, C, H, W) in the size of ``target``."""
        return torch.cat([self.source(target, source), self.target(target, source)], dim=1)

    def conv_features(self, target: Tensor, source: Tensor, kernel: Tensor) -> Tensor:
        """Return a 1x1 convolution of the features as a sum of one for each half, see :class:`SpatialGuide`."""
        source_kernel, target_kernel = kernel.split([self.source.channels, self.target.channels], dim=1)
        products = self.target.conv_features(target, source, target_kernel)
        return products.add_(self.source.conv_features(target, source, source_kernel))


class SumGuide(SpatialGuide):
    """Guide that adds projections of both maps: ``add(F_l, F_h)`` of Table 5.

    Args:
        channels: width of both maps.
        norm: normalizes each projection.
    """

    def __init__(self, channels: int, norm: Norm = no_norm) -> None:
        super().__init__()
        self.channels = channels // 2
        self.source, self.target = CoarseProjection(channels, norm), TargetProjection(channels, norm)

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        """Return features (N, C / 2, H, W) in the size of ``target``."""
        return self.source(target, source) + self.target(target, source)


def upsample(m: Tensor, reference: Tensor, convolve: Callable[..., Tensor]) -> Tensor:
    """Double the size of a map by a transposed convolution, to that of another one.

    Args:
        m: (N, C, h, w).
        reference: (N, ..., H, W), H being 2 h - 1, 2 h or 2 h + 1, and W likewise.
        convolve: a transposed 3x3 convolution of stride 2 and padding 1, called with a map and, optionally, the size of
            the result.

    Returns:
        (N, K, H, W).
    """
    height, width = reference.shape[-2:]
    if not torch.compiler.is_compiling() and height <= 2 * m.shape[-2] and width <= 2 * m.shape[-1]:
        return convolve(m, [height, width])
    # padded by a row and a column of zeros, then cropped: an exported graph cannot branch on its sizes
    return crop_like(convolve(F.pad(m, (0, 1, 0, 1))), reference)


def half_width_projection(channels: int) -> nn.Conv2d:
    """Make the 1x1 convolution that halves the channels of a map before the offset and omega are predicted.

    Args:
        channels: number of input channels.
    """
    conv = nn.Conv2d(channels, channels // 2, 1, bias=False)
    init_convs(conv)
    conv.weight.data.mul_(INIT_SCALE)
    return conv


class FineAverage(nn.Module):
    """Guide of CRB: global average of the finer map, the paper's choice (Eq. 5, ``F_l`` of Table 6).

    Args:
        channels: width of both maps; unused.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Return (N, C, 1, 1) from ``fine`` (N, C, H, W) and ``coarse`` (N, C, h, w)."""
        return global_average(fine)


class CoarseAverage(nn.Module):
    """Guide of CRB: global average of the coarser map, as in a squeeze-and-excitation block (``F_h`` of Table 6).

    Args:
        channels: width of both maps; unused.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Return (N, C, 1, 1) from ``fine`` (N, C, H, W) and ``coarse`` (N, C, h, w)."""
        return global_average(coarse)


class SumAverage(nn.Module):
    """Guide of CRB: global average of the sum of the coarser map and the finer one, downsampled (``add`` of Table 6).

    Args:
        channels: width of both maps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        init_convs(self)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Return (N, C, 1, 1) from ``fine`` (N, C, H, W) and ``coarse`` (N, C, h, w)."""
        return global_average(coarse + crop_like(self.down(fine), coarse))


class ConcatAverage(nn.Module):
    """Guide of CRB: 1x1 convolution of the global averages of both maps, the finer one downsampled (``cat``, Table 6).

    The paper applies the 1x1 convolution to the concatenated maps before it averages; both are linear, so here it is
    applied to the averages, with the same result.

    Args:
        channels: width of both maps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.reduce = nn.Conv2d(2 * channels, channels, 1)
        init_convs(self)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Return (N, C, 1, 1) from ``fine`` (N, C, H, W) and ``coarse`` (N, C, h, w)."""
        averages = [global_average(crop_like(self.down(fine), coarse)), global_average(coarse)]
        return self.reduce(torch.cat(averages, dim=1))


def global_average(m: Tensor) -> Tensor:
    """Average a map (N, C, H, W) over its pixels (GAP): (N, C, 1, 1)."""
    # a sum, since the backward pass of mean writes a map; in float32, since float16 would overflow
    dtype = torch.promote_types(m.dtype, torch.float32)
    return (m.sum((2, 3), keepdim=True, dtype=dtype) / (m.shape[2] * m.shape[3])).to(m.dtype)
