"""Spatial Refinement Block (SRB): the top-down step of DRFPN, with the prediction of its offset and of omega."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

from drfpn.necks.drfpn.guides import ConcatGuide, SpatialGuide
from drfpn.necks.layers.convs import init_convs
from drfpn.ops import Warp, add_warped, may_fuse_layers, warp
from drfpn.ops.cpu import srb as cpu


class SpatialRefinementBlock(nn.Module):
    r"""Adds a coarser map to a finer one, sampled at learned positions and weighted by learned weights (Eqs. 1 to 4).

    .. math::
        \mathrm{SRB}(f, c) = f + \omega \odot \mathrm{sample}(c, g + \delta) + \mathrm{up}(c)

    Both the offset :math:`\delta` and the weight :math:`\omega` are predicted from the two maps. The 3x3
    convolution of Eq. 4 follows in the neck, once on each level.

    Shapes:
        - fine: (N, C, H, W); coarse: (N, C, h, w) of half its size, rounded up or down; result as fine;
        - offset: (N, 2, H, W), (x, y), in the unit of ``warp``; omega: (N, 1, H, W); ``up`` is nearest-neighbor.

    Differs from the paper: Eq. 1 has one 3x3 convolution for omega, here 1x1 + ReLU + 3x3 as in the release
    (Table 7's parameters fit only this).

    Initialization: the last convolutions of delta and omega are zero, so the block starts as FPN's step, bit for bit.
    Omega's last convolution has a gradient immediately, since ``sample`` is not zero; delta and all layers below have
    one from the second step on, when omega is no longer zero. The projections start at a tenth of Kaiming uniform,
    since a training step changes omega and delta by the square of the scale of their inputs. On the maps of a backbone
    with linear outputs (EfficientNet's have a standard deviation of 7) that alone is not enough: without a ``bound``,
    omega can diverge. A ``guide`` with ``norm=rms_norm`` reads maps independently of their scale.

    On a CPU the layers up to the ReLU are fused and not called; inside of ``drfpn.ops.call_every_layer()`` they are,
    for hooks on them.

    Args:
        channels: width of both maps.
        warp: samples the coarser map; defines the unit of the offset, the grid and the padding.
        guide: makes the guide, whose features delta and omega are predicted from.
        bound: maps omega as predicted to omega as used, such as ``nn.Tanh()``; ``None`` for no bound.
    """

    def __init__(
        self,
        channels: int,
        warp: Warp = warp,
        guide: Callable[[int], SpatialGuide] = ConcatGuide,
        bound: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.warp = warp
        self.guide = guide(channels)
        self.offset = offset_head(self.guide)
        self.weight = weight_head(self.guide, channels // 2, bound)

    def predict_offset_and_weight(self, fine: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor]:
        """Predict delta (N, 2, H, W) and omega (N, 1, H, W) from both maps (Eq. 1).

        Args:
            fine: (N, C, H, W), the map that is added to.
            coarse: (N, C, h, w), the map that is sampled.
        """
        if not may_fuse_layers(fine.device):
            features = self.guide(fine, coarse)
            return self.offset(features), self.weight(features)
        weight: Any = self.weight
        reduce, _, last, bound = weight
        conv_features = partial(self.guide.conv_features, fine, coarse)
        offset, omega = cpu.predict_offset_and_weight(
            conv_features, self.offset.weight, reduce.weight, last.weight, last.bias
        )
        return offset, bound(omega)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Fuse ``coarse`` (N, C, h, w) into ``fine`` (N, C, H, W)."""
        offset, weight = self.predict_offset_and_weight(fine, coarse)
        return add_warped(fine, coarse, offset, weight, self.warp)


def offset_head(guide: SpatialGuide) -> nn.Conv2d:
    """Make the convolution that predicts delta (N, 2, H, W) from a guide's features, initialized with zero (Eq. 1).

    Args:
        guide: its number of features is used.
    """
    conv = nn.Conv2d(guide.channels, 2, 3, padding=1, bias=False)
    nn.init.zeros_(conv.weight)
    return conv


def weight_head(guide: SpatialGuide, hidden: int, bound: nn.Module | None = None) -> nn.Sequential:
    """Make the layers that predict omega (N, 1, H, W) from a guide's features, initialized to return zero (Eq. 1).

    Args:
        guide: its number of features is used.
        hidden: channels between the 1x1 and the 3x3 convolution.
        bound: last layer; ``None`` for no bound.
    """
    last = nn.Conv2d(hidden, 1, 3, padding=1)
    head = nn.Sequential(nn.Conv2d(guide.channels, hidden, 1, bias=False), nn.ReLU(), last, bound or nn.Identity())
    init_convs(head)
    nn.init.zeros_(last.weight)
    return head
