"""Conversion of weights of the authors' released code to a DRFPN of this library."""

import re
from collections.abc import Mapping
from typing import Literal

from torch import Tensor
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool

from drfpn.necks.drfpn.neck import DRFPN
from drfpn.necks.layers.extra_levels import ExtraConvs
from drfpn.utils.errors import UsageError, UserError
from drfpn.utils.weights import load_strict

RELEASE_NAMES = {
    "lateral_convs.#.conv.": "lateral.#.",
    "fpn_convs.#.conv.": "smooth.#.",
    "PPM_head.reduceDim_conv.": "top.reduce.",
    "PPM_head.stages.#.1.": "top.branches.#.",
    "PPM_head.bottleneck.": "top.merge.",
    "srb_list.#.down_h.": "top_down.steps.#.guide.source.project.",
    "srb_list.#.down_l.": "top_down.steps.#.guide.target.project.",
    "srb_list.#.deconv.": "top_down.steps.#.guide.source.upsample.",
    "srb_list.#.offset_make.": "top_down.steps.#.offset.",
    "srb_list.#.spatial_weight.": "top_down.steps.#.weight.",
    "downsample_convs.#.conv.": "bottom_up.steps.#.down.",
    "crb_list.#.supervise_conv1x1.conv.": "bottom_up.steps.#.refinement.gate.0.",
    "crb_list.#.supervise_conv1x1.bn.": "bottom_up.steps.#.refinement.gate.1.",
    "crb_list.#.input_conv3x3.conv.": "bottom_up.steps.#.refinement.refine.0.",
    "crb_list.#.input_conv3x3.bn.": "bottom_up.steps.#.refinement.refine.1.",
    "pafpn_convs.#.conv.": "bottom_up.smooth.#.",
}
"""Prefix of parameter names in the release -> prefix here; ``#`` stands for an index."""


def load_release(
    state_dict: Mapping[str, Tensor],
    *,
    add_extra_convs: Literal["on_input", "on_output"] | None = None,
    relu_before_extra_convs: bool = False,
) -> DRFPN:
    """Build a DRFPN with weights of the authors' network, whose outputs it reproduces.

    Args:
        state_dict: weights of the neck under the release's names, or of a whole detector, where they start with
            ``neck.``.
        add_extra_convs: map that P6 is made from if the network has extra convolutions: ``"on_input"`` for C5
            (RetinaNet), ``"on_output"`` for N5 (FCOS); ``None`` for a max-pooled N6 (two-stage detectors).
        relu_before_extra_convs: whether P7 is made from P6 behind a ReLU.

    Returns:
        A neck with ``convention="release"`` and five levels: N2..N6 from four maps, N3..N7 from three.

    Raises:
        UserError: weights whose names or shapes are not those of the authors' network.
        UsageError: an unknown ``add_extra_convs``, or ``None`` for a network that has extra convolutions.
    """
    if add_extra_convs not in (None, "on_input", "on_output"):
        raise UsageError(f"`add_extra_convs` must be 'on_input', 'on_output' or None, not {add_extra_convs!r}.")
    weights = {name.removeprefix("neck."): value for name, value in state_dict.items() if name.startswith("neck.")}
    weights = weights or dict(state_dict)
    lateral = sorted(
        (int(match[1]), value)
        for name, value in weights.items()
        if (match := re.fullmatch(r"lateral_convs\.(\d+)\.conv\.weight", name))
    )
    top = weights.get("PPM_head.reduceDim_conv.weight")
    if not lateral or top is None:
        raise UserError(
            "These are not the weights of the authors' DRFPN: 'lateral_convs.0.conv.weight' and "
            f"'PPM_head.reduceDim_conv.weight' were expected among the names, found {sorted(weights)[:3]}."
        )
    in_channels = [*(value.shape[1] for _, value in lateral), top.shape[1]]
    out_channels = top.shape[0]
    levels = len(in_channels)

    extra: ExtraFPNBlock = LastLevelMaxPool()
    names = dict(RELEASE_NAMES)
    if add_extra_convs is not None:
        on_input = add_extra_convs == "on_input"
        extra = ExtraConvs(
            in_channels[-1] if on_input else out_channels,
            out_channels,
            source="input" if on_input else "output",
            relu=relu_before_extra_convs,
        )
        extra_names = {
            f"fpn_convs.{levels}.conv.": "extra_blocks.p6.",
            f"fpn_convs.{levels + 1}.conv.": "extra_blocks.p7.",
        }
        names = extra_names | names
    elif f"fpn_convs.{levels}.conv.weight" in weights:
        raise UsageError(
            f"The weights hold extra convolutions ('fpn_convs.{levels}.conv.weight'): set `add_extra_convs='on_input'` "
            "(RetinaNet) or 'on_output' (FCOS)."
        )

    neck = DRFPN(in_channels, out_channels, extra, convention="release")
    load_strict(neck, {rename(name, names): value for name, value in weights.items()}, "the authors' DRFPN")
    return neck


def rename(name: str, prefixes: Mapping[str, str]) -> str:
    """Replace the prefix of a parameter's name by another one with the same index.

    Args:
        name: name of a parameter.
        prefixes: as ``RELEASE_NAMES``, the first that fits is used.

    Raises:
        UserError: a name with none of these prefixes.
    """
    for old, new in prefixes.items():
        match = re.match(re.escape(old).replace(r"\#", r"(\d+)"), name)
        if match:
            index = match[1] if match.groups() else ""
            return new.replace("#", index) + name[match.end() :]
    raise UserError(f"'{name}' is not a name of the authors' DRFPN.")
