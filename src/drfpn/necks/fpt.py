"""FPT: Feature Pyramid Transformer, attention within and between levels (Zhang et al., ECCV 2020, arXiv:2007.09451)."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.necks.base import Neck, check_channels
from drfpn.necks.layers.convs import init_convs
from drfpn.necks.layers.norm import group_norm
from drfpn.ops import crop_like, full_precision
from drfpn.utils.choices import choose
from drfpn.utils.errors import UsageError

NUM_SOFTMAXES = 2
"""Number of softmaxes that the self-transformer mixes."""


def flatten_map(m: Tensor) -> Tensor:
    """Turn a map (N, C, H, W) into tokens (N, HW, C), contiguous as the fused attention kernels require."""
    return m.flatten(2).transpose(1, 2).contiguous()


def unflatten_tokens(x: Tensor, size: Sequence[int]) -> Tensor:
    """Turn tokens (N, HW, C) into a map (N, C, H, W) of height and width ``size``."""
    return x.transpose(1, 2).unflatten(2, tuple(size))


def mixture_of_softmaxes(query: Tensor, key: Tensor, value: Tensor, weights: Tensor, scale: float) -> Tensor:
    r"""Compute attention by a mixture of softmaxes, each over its own group of channels of query and key.

    .. math::
        \sum_m \pi_m \, \mathrm{softmax}(s \, q_m k_m^T) \, v

    Args:
        query: (N, Q, C)
        key: (N, K, C)
        value: (N, K, C)
        weights: mixture weights pi (N, M) of the M softmaxes.
        scale: factor s of the logits.

    Returns:
        (N, Q, C)
    """
    groups = weights.shape[1]
    width = value.shape[2]
    grouped = [x.unflatten(2, (groups, -1)).transpose(1, 2) for x in (query, key)]  # (N, M, Q or K, C / M)
    # attention kernels that do not store the Q x K matrix need queries as wide as values
    q, k = (F.pad(x, (0, width - x.shape[-1])) for x in grouped)
    attended = F.scaled_dot_product_attention(q, k, value[:, None].expand(-1, groups, -1, -1), scale=scale)
    return (weights[:, :, None, None].to(attended.dtype) * attended).sum(dim=1)


def dot(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Compute dot-product attention without softmax, q k^T v / K, in linear time.

    Args:
        query: (N, Q, C)
        key: (N, K, C)
        value: (N, K, C)

    Returns:
        (N, Q, C)
    """
    return query @ (key.transpose(1, 2) @ (value / key.shape[1]))


def euclidean(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Compute attention by a softmax over the negative squared Euclidean distances of queries and keys.

    The square of the query is the same for all keys and cancels in the softmax, which leaves 2 q k^T - |k|^2: a scaled
    dot product with one more channel. It is computed in float32, since the two terms nearly cancel.

    Args:
        query: (N, Q, C)
        key: (N, K, C)
        value: (N, K, C)

    Returns:
        (N, Q, C)
    """
    with full_precision(query.device):
        q, k, v = query.float(), key.float(), value.float()
        q = torch.cat([2 * q, -torch.ones_like(q[..., :1])], dim=-1)
        k = torch.cat([k, k.square().sum(-1, keepdim=True)], dim=-1)
        padding = -q.shape[-1] % 8  # the fused kernels need widths that are multiples of 8
        q, k = F.pad(q, (0, padding)), F.pad(k, (0, padding))
        v_padded = F.pad(v, (0, q.shape[-1] - v.shape[-1]))
        attended = F.scaled_dot_product_attention(q[:, None], k[:, None], v_padded[:, None], scale=1.0)
        return attended[:, 0, :, : v.shape[-1]].to(value.dtype)


SIMILARITIES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"dot": dot, "euclidean": euclidean}
"""Attention functions of the grounding transformer by name: (query, key, value) -> (N, Q, C)."""


class SelfTransformer(nn.Module):
    """Self-transformer (ST): attention within one level, with keys and values average-pooled 3x3 at stride 2.

    Queries and keys share a 1x1 convolution. Two softmaxes over halves of the channels are mixed with weights that are
    predicted from the mean query. A shortcut adds the input.

    Args:
        channels: width of the level.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query_key = nn.Conv2d(channels, channels, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.shares = nn.Linear(channels, NUM_SOFTMAXES, bias=False)  # mixture weights
        self.out = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), group_norm(channels))
        init_convs(self)
        nn.init.uniform_(self.shares.weight, -(NUM_SOFTMAXES**-0.5), NUM_SOFTMAXES**-0.5)
        self.scale = channels**-0.5

    def forward(self, m: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        query = self.query_key(m)
        weights = self.shares(query.mean((2, 3))).softmax(dim=-1)
        key, value = (
            flatten_map(F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False))
            for x in (query, self.value(m))
        )
        attended = mixture_of_softmaxes(flatten_map(query), key, value, weights, self.scale)
        return m + self.out(unflatten_tokens(attended, m.shape[-2:]))


class GroundingTransformer(nn.Module):
    """Grounding transformer (GT): attention from the pixels of a finer level to those of a coarser one.

    The scale of the last norm is initialized with zero, so that the output is zero at the start and changes from the
    first optimizer step on.

    Args:
        channels: width of both levels; queries, keys and values have half as many channels.
        similarity: (query, key, value) -> attended values, an entry of ``SIMILARITIES``.
    """

    def __init__(self, channels: int, similarity: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.similarity = similarity
        self.query = nn.Conv2d(channels, channels // 2, 1)
        self.key = nn.Conv2d(channels, channels // 2, 1)
        self.value = nn.Conv2d(channels, channels // 2, 1)
        norm = group_norm(channels)
        self.out = nn.Sequential(nn.Conv2d(channels // 2, channels, 1), norm)
        init_convs(self)
        nn.init.zeros_(norm.weight)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Return what ``fine`` (N, C, H, W) gathers from ``coarse`` (N, C, h, w), in the shape of ``fine``."""
        query, key, value = self.query(fine), self.key(coarse), self.value(coarse)
        attended = self.similarity(flatten_map(query), flatten_map(key), flatten_map(value))
        return self.out(unflatten_tokens(attended, fine.shape[-2:]))


class RenderingTransformer(nn.Module):
    """Rendering transformer (RT): adds the detail of a finer level to a coarser one, whose channels it gates.

    The gates are predicted from the channel means of the finer level. The finer level is average-pooled to twice the
    size of the coarser one and passes a 3x3 convolution of stride 2.

    Args:
        channels: width of both levels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), group_norm(channels), nn.ReLU())
        self.refine = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), group_norm(channels))
        self.down = nn.Sequential(
            nn.Conv2d(channels, channels, 3, stride=2, padding=1, bias=False), group_norm(channels)
        )
        init_convs(self)

    def forward(self, coarse: Tensor, fine: Tensor, stride: int) -> Tensor:
        """Fuse a finer level into a coarser one.

        Args:
            coarse: (N, C, h, w).
            fine: (N, C, H, W).
            stride: pixels of ``fine`` for one of ``coarse``: 2, 4 or 8.

        Returns:
            (N, C, h, w).
        """
        gate = self.gate(fine.mean((2, 3), keepdim=True))
        if stride > 2:
            fine = F.avg_pool2d(fine, stride // 2, ceil_mode=True)
        return F.relu(gate * self.refine(coarse) + crop_like(self.down(fine), coarse))


class FPTPath(nn.Module):
    """Concatenates each level with its self-transformer and its transformers from all other levels (3x3 convolution).

    Args:
        channels: width of the levels.
        levels: number of levels.
        similarity: attention function of the grounding transformers.
    """

    def __init__(self, channels: int, levels: int, similarity: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.own = nn.ModuleList(SelfTransformer(channels) for _ in range(levels))
        self.others = nn.ModuleList(
            nn.ModuleDict(
                {
                    str(j): RenderingTransformer(channels) if j < i else GroundingTransformer(channels, similarity)
                    for j in range(levels)
                    if j != i
                }
            )
            for i in range(levels)
        )
        self.merge = nn.ModuleList(nn.Conv2d((levels + 1) * channels, channels, 3, padding=1) for _ in range(levels))
        init_convs(self.merge)

    def forward(self, p: list[Tensor]) -> list[Tensor]:
        """Map the levels (N, C, H, W), finest first, to the same shapes."""
        return [
            merge(torch.cat([self_transformer(p[i]), *self._cross_level(i, p), p[i]], dim=1))
            for i, (self_transformer, merge) in enumerate(zip(self.own, self.merge, strict=True))
        ]

    def _cross_level(self, i: int, p: list[Tensor]) -> list[Tensor]:
        """Return the outputs of the rendering and grounding transformers of level ``i``."""
        return [
            transformer(p[i], p[int(j)], 2 ** (i - int(j))) if int(j) < i else transformer(p[i], p[int(j)])
            for j, transformer in self.others[i].items()  # type: ignore[operator]  # a ModuleDict
        ]


class FPT(Neck):
    """Feature Pyramid Transformer: every level attends to itself and to all other levels.

    A 1x1 convolution brings the backbone's maps to one width. Each output level is a 3x3 convolution of the
    concatenation of the level itself, its self-transformer (ST), a rendering transformer (RT) for each finer level and
    a grounding transformer (GT) for each coarser level. The transformers do not share weights.

    The authors' code does not run as published, so this is written from the paper, with the layer sizes of the code.
    Decisions where the two are incomplete or do not work:

    - GT: the paper uses a softmax over negative squared distances (``"euclidean"``), the code the dot product divided
      by the number of keys (``"dot"``, the default: a hundredth of the computation on large images). There is no
      mixture of softmaxes, which the code has in ST only, and no window for the paper's locality constraint.
    - ST: keys and values are average-pooled at stride 2, and there is no dropout.
    - RT to a level 4 or 8 times coarser: average pooling to twice its size, then one convolution of stride 2.
    - GroupNorm instead of BatchNorm everywhere, since RT normalizes a single pixel.
    - Layers of the code whose output is not used are left out.

    The matrix of all pairs of pixels is never stored: softmaxes are computed by ``scaled_dot_product_attention``, dot
    products in the order that takes linear time. The time of ST is quadratic in the number of pixels.

    Args:
        in_channels: channels of the backbone's maps, finest first.
        out_channels: channels of every output level, a multiple of 16.
        extra_blocks: torchvision's ``ExtraFPNBlock``, called with (levels, backbone maps, names); ``None`` for none.
        similarity: attention function of GT, a key of ``SIMILARITIES``.

    Raises:
        UsageError: channels of fewer than two maps, ``out_channels`` that is not a multiple of 16, or an unknown
            similarity.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        extra_blocks: ExtraFPNBlock | None = None,
        *,
        similarity: str = "dot",
    ) -> None:
        check_channels(in_channels)
        if out_channels < 16 or out_channels % 16:
            raise UsageError(f"`out_channels` of FPT must be a multiple of 16, not {out_channels}.")
        attention = choose("similarity", similarity, SIMILARITIES)
        laterals = nn.ModuleList(nn.Conv2d(channels, out_channels, 1) for channels in in_channels)
        init_convs(laterals)
        super().__init__(
            in_channels,
            out_channels,
            lateral=list(laterals),
            smooth=[nn.Identity() for _ in in_channels],
            top_down=FPTPath(out_channels, len(in_channels), attention),
            extra_blocks=extra_blocks,
        )
