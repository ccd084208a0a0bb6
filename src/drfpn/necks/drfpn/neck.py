"""DRFPN, the neck of Dual Refinement Feature Pyramid Networks (arXiv:2012.01733), and the steps that it offers."""

from collections.abc import Callable, Sequence
from functools import partial

from torch import nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.necks.base import LayerFactory, StepNeck
from drfpn.necks.drfpn import guides
from drfpn.necks.drfpn.ablations import CRBTopDown, GlobalInformationRefinement, SamplingPointOffset, SRBBottomUp
from drfpn.necks.drfpn.conventions import CONVENTIONS, DEFAULT_CONVENTION, Convention
from drfpn.necks.layers.dense_aspp import DenseASPP
from drfpn.necks.layers.fusion import NearestAdd
from drfpn.necks.layers.non_local import NonLocal
from drfpn.utils.choices import choose

TOP_DOWN: dict[str, Callable[[Convention, int], nn.Module]] = {
    "nearest": lambda _, n: NearestAdd(),
    "srb": lambda c, n: c.srb(n),
    "srb_from_fine": lambda c, n: c.srb(n, guides.TargetProjection),
    "srb_from_coarse": lambda c, n: c.srb(n, guides.CoarseProjection),
    "srb_from_sum": lambda c, n: c.srb(n, guides.SumGuide),
    "srb_offset": lambda c, n: SamplingPointOffset(n, c.warp, c.norm),
    "srb_weight": lambda c, n: GlobalInformationRefinement(n, c.warp, c.norm, c.bound()),
    "crb": lambda c, n: CRBTopDown(c.refinement(n), NearestAdd()),
    "crb_srb": lambda c, n: CRBTopDown(c.refinement(n), c.srb(n)),
}
"""Steps of the top-down path by name: (convention, channels) -> step."""

BOTTOM_UP: dict[str, Callable[[Convention, int], nn.Module]] = {
    "stride": lambda c, n: c.stride_add(n),
    "crb": lambda c, n: c.crb(n),
    "crb_from_coarse": lambda c, n: c.crb(n, guide=guides.CoarseAverage),
    "crb_from_sum": lambda c, n: c.crb(n, guide=guides.SumAverage),
    "crb_from_both": lambda c, n: c.crb(n, guide=guides.ConcatAverage),
    "srb": lambda c, n: SRBBottomUp(n, c.warp, c.norm, c.bound(), init_scale=c.down_init_scale),
}
"""Steps of the bottom-up path by name: (convention, channels) -> step."""

CONTEXTS: dict[str, Callable[[Convention, int, int], nn.Module]] = {
    "ppm": lambda c, c5, n: c.ppm(c5, n),
    "non_local": lambda _, c5, n: NonLocal(c5, n),
    "dense_aspp": lambda _, c5, n: DenseASPP(c5, n),
}
"""Context modules by name: (convention, channels of C5, width) -> module on C5."""


class DRFPN(StepNeck):
    """Dual Refinement Feature Pyramid: SRB in the top-down path, CRB in the bottom-up path, PPM on C5 (Figure 3a).

    A drop-in replacement for FPN: same input maps, same names and sizes of the output levels. By default it starts as
    an FPN with the same lateral and 3x3 convolutions, bit for bit, and omega and the gates are bounded, so that it
    trains at FPN's learning rate and warm-up. ``bounded`` and ``paper``
    have the same number of parameters, ``release`` has the BatchNorms of CRB more.

    =================  ===============================  ==========================  =============================
    convention         ``"bounded"`` (default)          ``"paper"``                 ``"release"``
    =================  ===============================  ==========================  =============================
    input of SRB       maps divided by their root       maps                        maps
                       mean squares
    omega              tanh, -1 to 1                    no bound                    no bound
    unit of offsets    2 / (H + W)                      2 / (H + W) (Eq. 2)         1 / W, 1 / H
    grid, outside      pixel centers, border repeats    as bounded                  corners at -1 and 1, zeros
    gates              2 sigmoid, of averages divided   convolution, no bound       convolution, BatchNorm, ReLU
                       by their root mean square        (Eq. 5)
    conv5, conv6       beside a shortcut                plain                       conv5: BatchNorm, ReLU
    PPM                added to the reduced map         concatenation, 1x1, ReLU    as paper
    starts as FPN      exactly                          within a factor of 2        within a factor of 2
    =================  ===============================  ==========================  =============================

    ``"paper"`` and ``"release"`` can diverge: a training step changes omega and the paper's gates by the square of the
    scale of the maps, and the maps that they multiply grow with them. On photographs with large objects ``"paper"``
    diverges in the warm-up at a learning rate at which FPN trains; lower the learning rate, or use ``"bounded"``.

    Args:
        in_channels: channels of the backbone's maps, finest first.
        out_channels: channels of every output level.
        extra_blocks: torchvision's ``ExtraFPNBlock``, called with (levels, backbone maps, names); ``None`` for none.
        context: module on the coarsest map: a name of ``CONTEXTS``, ``None`` for a 1x1 convolution, or a module that
            maps (N, in_channels[-1], H, W) to (N, out_channels, H, W).
        convention: ``"bounded"``; ``"paper"``, which follows the equations; ``"release"``, which follows the authors'
            code where it differs from them.
        top_down: step of the top-down path: a name of ``TOP_DOWN``, or a callable that makes one for a number of
            channels.
        bottom_up: step of the bottom-up path: a name of ``BOTTOM_UP``, a callable that makes one, or ``None`` for no
            such path.

    Raises:
        UsageError: an unknown context, convention or step, or channels of fewer than two maps.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        extra_blocks: ExtraFPNBlock | None = None,
        *,
        context: str | nn.Module | None = "ppm",
        convention: str = DEFAULT_CONVENTION,
        top_down: str | LayerFactory = "srb",
        bottom_up: str | LayerFactory | None = "crb",
    ) -> None:
        parts = choose("convention", convention, CONVENTIONS)
        if isinstance(context, str):
            context = choose("context", context, CONTEXTS, "None", "a module")(parts, in_channels[-1], out_channels)
        if isinstance(top_down, str):
            top_down = partial(choose("top_down", top_down, TOP_DOWN, "a callable that makes a step"), parts)
        if isinstance(bottom_up, str):
            bottom_up = partial(
                choose("bottom_up", bottom_up, BOTTOM_UP, "None", "a callable that makes a step"), parts
            )
        super().__init__(
            in_channels,
            out_channels,
            extra_blocks,
            top=context,
            top_down=top_down,
            bottom_up=bottom_up,
            smooth_up=parts.smooth_up,
        )
