"""Loading the weights that the authors' code saved."""

import re
from collections.abc import Mapping
from typing import Literal

from torch import Tensor
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool

from drfpn.necks.drfpn.neck import DRFPN
from drfpn.necks.layers.extra_levels import ExtraConvs
from drfpn.utils.errors import UserError
from drfpn.utils.weights import load_exactly

_NAMES = {
    r"lateral_convs\.(\d+)\.conv\.": r"lateral.\1.",
    r"fpn_convs\.(\d+)\.conv\.": r"smooth.\1.",
    r"PPM_head\.reduceDim_conv\.": "top.reduce.",
    r"PPM_head\.stages\.(\d+)\.1\.": r"top.branches.\1.",
    r"PPM_head\.bottleneck\.": "top.merge.",
    r"srb_list\.(\d+)\.down_h\.": r"top_down.steps.\1.guide.source.project.",
    r"srb_list\.(\d+)\.down_l\.": r"top_down.steps.\1.guide.target.project.",
    r"srb_list\.(\d+)\.deconv\.": r"top_down.steps.\1.guide.source.upsample.",
    r"srb_list\.(\d+)\.offset_make\.": r"top_down.steps.\1.offset.",
    r"srb_list\.(\d+)\.spatial_weight\.": r"top_down.steps.\1.weight.",
    r"downsample_convs\.(\d+)\.conv\.": r"bottom_up.steps.\1.down.",
    r"crb_list\.(\d+)\.supervise_conv1x1\.conv\.": r"bottom_up.steps.\1.refinement.gate.0.",
    r"crb_list\.(\d+)\.supervise_conv1x1\.bn\.": r"bottom_up.steps.\1.refinement.gate.1.",
    r"crb_list\.(\d+)\.input_conv3x3\.conv\.": r"bottom_up.steps.\1.refinement.refine.0.",
    r"crb_list\.(\d+)\.input_conv3x3\.bn\.": r"bottom_up.steps.\1.refinement.refine.1.",
    r"pafpn_convs\.(\d+)\.conv\.": r"bottom_up.smooth.\1.",
}
"""Name in the release (pattern) -> name here."""


def load_release(
    state_dict: Mapping[str, Tensor],
    *,
    add_extra_convs: Literal["on_input", "on_output"] | None = None,
    relu_before_extra_convs: bool = False,
) -> DRFPN:
    """Build a DRFPN with the weights and the numbers of the authors' network.

    Args:
        state_dict: the network's weights under the release's names; those of a whole detector, where they begin
            with ``neck.``, will do.
        add_extra_convs: what P6 is made from where the network has extra convolutions: ``"on_input"`` C5
            (RetinaNet), ``"on_output"`` N5 (FCOS). ``None``: a max-pooled N6 (two-stage detectors).
        relu_before_extra_convs: whether P6 passes a ReLU on its way to P7.

    Returns:
        A pyramid with the release's convention and five levels (four maps in: N2..N6; three in: N3..N7).

    Raises:
        UserError: a name or a shape that the authors' network does not have.
    """
    if add_extra_convs not in (None, "on_input", "on_output"):
        raise UserError(f"add_extra_convs must be 'on_input', 'on_output' or None, not {add_extra_convs!r}.")
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
    names = dict(_NAMES)
    if add_extra_convs is not None:
        on_input = add_extra_convs == "on_input"
        extra = ExtraConvs(
            in_channels[-1] if on_input else out_channels,
            out_channels,
            source="input" if on_input else "output",
            relu=relu_before_extra_convs,
        )
        own = {
            rf"fpn_convs\.{levels}\.conv\.": "extra_blocks.p6.",
            rf"fpn_convs\.{levels + 1}\.conv\.": "extra_blocks.p7.",
        }
        names = own | names
    elif f"fpn_convs.{levels}.conv.weight" in weights:
        raise UserError(
            f"The weights hold extra convolutions ('fpn_convs.{levels}.conv.weight'): say add_extra_convs='on_input' "
            "(RetinaNet) or 'on_output' (FCOS)."
        )

    pyramid = DRFPN(in_channels, out_channels, extra, convention="release")
    load_exactly(pyramid, {_rename(name, names): value for name, value in weights.items()}, "the authors' DRFPN")
    return pyramid


def _rename(name: str, names: Mapping[str, str]) -> str:
    for pattern, replacement in names.items():
        if re.match(pattern, name):
            return re.sub("^" + pattern, replacement, name)
    raise UserError(f"'{name}' is not a name of the authors' DRFPN.")
