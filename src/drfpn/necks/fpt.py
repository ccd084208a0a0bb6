"""FPT: levels that attend to one another (Feature Pyramid Transformer; Zhang et al., ECCV 2020, arXiv:2007.09451)."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.necks.base import Neck, check_channels, init_convs
from drfpn.utils.errors import UserError, did_you_mean

MIXTURES = 2
"""Softmaxes that the self-transformer mixes."""


def tokens(m: Tensor) -> Tensor:
    """Turn a map (N, C, H, W) into its pixels (N, HW, C), channels side by side as the fast kernels take them."""
    return m.flatten(2).transpose(1, 2).contiguous()


def as_map(x: Tensor, like: Tensor) -> Tensor:
    """Turn pixels (N, HW, C) into a map of the height and width of ``like``."""
    return x.transpose(1, 2).unflatten(2, like.shape[-2:])


def mixture_of_softmaxes(query: Tensor, key: Tensor, value: Tensor, shares: Tensor, scale: float) -> Tensor:
    r"""Average values by several softmaxes, each over its own part of the channels.

    .. math::
        \sum_m \pi_m \, \mathrm{softmax}(s \, q_m k_m^T) \, v

    Args:
        query: (N, Q, C)
        key: (N, K, C)
        value: (N, K, C)
        shares: (N, M), pi of each of M parts.
        scale: s.

    Returns:
        (N, Q, C)
    """
    parts = shares.shape[1]
    width = value.shape[2]
    split = [x.unflatten(2, (parts, -1)).transpose(1, 2) for x in (query, key)]  # (N, M, Q or K, C / M)
    # the kernels that make no map of all pairs need queries as wide as values
    q, k = (F.pad(x, (0, width - x.shape[-1])) for x in split)
    each = F.scaled_dot_product_attention(q, k, value[:, None].expand(-1, parts, -1, -1), scale=scale)
    return (shares[:, :, None, None].to(each.dtype) * each).sum(dim=1)


def dot(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Average values (N, K, C), weighed by q k^T / K, of any sign: (N, Q, C) in time that is linear in Q and K."""
    return query @ (key.transpose(1, 2) @ (value / key.shape[1]))


def euclidean(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Average values (N, K, C) by a softmax over minus the squared distance of query and key: (N, Q, C).

    The square of the query is the same for all keys and drops out, so that 2 q k^T - |k|^2 is left: a scaled product
    with one channel more. In float32, since the two terms nearly cancel.
    """
    device = query.device.type
    available = torch.amp.is_autocast_available(device)  # it is not where shapes alone are computed
    with torch.autocast(device, enabled=False) if available else nullcontext():
        q, k, v = query.float(), key.float(), value.float()
        q = torch.cat([2 * q, -torch.ones_like(q[..., :1])], dim=-1)
        k = torch.cat([k, k.square().sum(-1, keepdim=True)], dim=-1)
        padding = -q.shape[-1] % 8  # widths that fast kernels take
        q, k = F.pad(q, (0, padding)), F.pad(k, (0, padding))
        wide = F.pad(v, (0, q.shape[-1] - v.shape[-1]))
        mean = F.scaled_dot_product_attention(q[:, None], k[:, None], wide[:, None], scale=1.0)
        return mean[:, 0, :, : v.shape[-1]].to(value.dtype)


SIMILARITIES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"dot": dot, "euclidean": euclidean}
"""How the grounding transformer averages, by name: (query, key, value) -> (N, Q, C)."""


def norm(channels: int) -> nn.GroupNorm:
    """Make GroupNorm of 8 channels a group, 32 groups for 256: it needs neither a batch nor more than one pixel."""
    return nn.GroupNorm(max(1, channels // 8), channels)


class SelfTransformer(nn.Module):
    """Attends to the level itself: each pixel asks, averages of 3x3 pixels at stride 2 answer (ST).

    Queries and keys share a convolution. Two softmaxes over halves of the channels are mixed by shares that the mean
    query decides. The input is added at the end.

    Args:
        channels: of the level.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query_key = nn.Conv2d(channels, channels, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.shares = nn.Linear(channels, MIXTURES, bias=False)
        self.out = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), norm(channels))
        init_convs(self)
        nn.init.uniform_(self.shares.weight, -(MIXTURES**-0.5), MIXTURES**-0.5)
        self.scale = channels**-0.5

    def forward(self, m: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        asked = self.query_key(m)
        shares = self.shares(asked.mean((2, 3))).softmax(dim=-1)
        key, value = (
            tokens(F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)) for x in (asked, self.value(m))
        )
        mean = mixture_of_softmaxes(tokens(asked), key, value, shares, self.scale)
        return m + self.out(as_map(mean, m))


class GroundingTransformer(nn.Module):
    """Brings what a coarser level holds to the pixels of a finer one that it resembles (GT).

    The norm's scale begins at zero, so it begins silent and wakes with the first step.

    Args:
        channels: of both levels; half as many are compared.
        similarity: (query, key, value) -> averages, as those of ``SIMILARITIES``.
    """

    def __init__(self, channels: int, similarity: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.similarity = similarity
        self.query = nn.Conv2d(channels, channels // 2, 1)
        self.key = nn.Conv2d(channels, channels // 2, 1)
        self.value = nn.Conv2d(channels, channels // 2, 1)
        last = norm(channels)
        self.out = nn.Sequential(nn.Conv2d(channels // 2, channels, 1), last)
        init_convs(self)
        nn.init.zeros_(last.weight)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Return (N, C, H, W) of ``fine`` from ``coarse`` (N, C, h, w)."""
        mean = self.similarity(tokens(self.query(fine)), tokens(self.key(coarse)), tokens(self.value(coarse)))
        return self.out(as_map(mean, fine))


class RenderingTransformer(nn.Module):
    """Gives a coarser level the detail of a finer one, whose means weigh its channels (RT).

    The finer level is averaged to twice the size of the coarser and passes a 3x3 convolution of stride 2.

    Args:
        channels: of both levels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), norm(channels), nn.ReLU())
        self.refine = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), norm(channels))
        self.down = nn.Sequential(nn.Conv2d(channels, channels, 3, stride=2, padding=1, bias=False), norm(channels))
        init_convs(self)

    def forward(self, coarse: Tensor, fine: Tensor, octaves: int) -> Tensor:
        """Return (N, C, h, w) of ``coarse`` from ``fine`` (N, C, H, W), which is 2 to the ``octaves`` larger."""
        gate = self.gate(fine.mean((2, 3), keepdim=True))
        if octaves > 1:
            fine = F.avg_pool2d(fine, 2 ** (octaves - 1), ceil_mode=True)
        detail = self.down(fine)[..., : coarse.shape[-2], : coarse.shape[-1]]
        return F.relu(gate * self.refine(coarse) + detail)


class FPTPath(nn.Module):
    """Joins each level with what its self-transformer and those from all other levels give.

    Args:
        channels: of each level.
        levels: how many.
        similarity: of the grounding transformers.
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
        """Turn the levels, finest first, into new ones of the same sizes."""
        return [
            merge(torch.cat([own(p[i]), *self._from_others(i, p), p[i]], dim=1))
            for i, (own, merge) in enumerate(zip(self.own, self.merge, strict=True))
        ]

    def _from_others(self, i: int, p: list[Tensor]) -> list[Tensor]:
        return [
            module(p[i], p[int(j)], i - int(j)) if int(j) < i else module(p[i], p[int(j)])
            for j, module in self.others[i].items()  # type: ignore[operator]  # a ModuleDict
        ]


class FPT(Neck):
    """Feature Pyramid Transformer: every level attends to itself and to all others; there is no path of steps.

    A 1x1 convolution brings the backbone's maps to one width. A level is then the 3x3 convolution of all these, one
    beside the other: what its self-transformer (ST) gives, a rendering transformer (RT) for each finer level, a
    grounding transformer (GT) for each coarser level, and itself. No transformer shares its weights.

    The authors' code does not run as it is, so this is made from the paper, with the sizes of their layers. Where the
    two leave something open or do not work:

    - GT: the paper compares by minus the squared distance and a softmax (``"euclidean"``), the code by the product
      over the number of keys (``"dot"``, the default: on large images a hundredth of the work). Without the mixture
      of softmaxes, which the code has in ST alone, and without the window of the paper's locality constraint.
    - ST: keys and values are averages at stride 2, and there is no dropout.
    - RT to a level two or three octaves coarser: averaged to twice its size, then one convolution of stride 2.
    - GroupNorm in place of BatchNorm everywhere: RT normalises one pixel.
    - Layers of the code that nothing reads are left out.

    No map of all pairs of pixels is made: softmaxes are ``scaled_dot_product_attention``, products are taken in the
    order that is linear. The time of ST is quadratic in the size of the image all the same.

    Args:
        in_channels: channels of the backbone's maps, finest first.
        out_channels: channels of every level that leaves, a multiple of 16.
        extra_blocks: torchvision's ``ExtraFPNBlock``.
        similarity: of GT, a name of ``SIMILARITIES``.

    Raises:
        UserError: a width that is no multiple of 16, or an unknown similarity.
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
            raise UserError(f"The width of FPT must be a multiple of 16, not {out_channels}.")
        if similarity not in SIMILARITIES:
            raise UserError(
                f"similarity must be one of {', '.join(SIMILARITIES)}, not {similarity!r}."
                f"{did_you_mean(str(similarity), SIMILARITIES)}"
            )
        laterals = nn.ModuleList(nn.Conv2d(channels, out_channels, 1) for channels in in_channels)
        init_convs(laterals)
        super().__init__(
            in_channels,
            out_channels,
            lateral=list(laterals),
            smooth=[nn.Identity() for _ in in_channels],
            top_down=FPTPath(out_channels, len(in_channels), SIMILARITIES[similarity]),
            extra_blocks=extra_blocks,
        )
