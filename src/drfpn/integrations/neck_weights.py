"""Weights of other libraries' FPN, PAFPN and of the authors' DRFPN under the names of a neck of this library."""

import re
from collections.abc import Mapping, MutableMapping
from typing import Any

from torch import Tensor, nn

from drfpn.necks import Neck
from drfpn.necks.drfpn.convert_release import RELEASE_NAMES

MMDET_NAMES = {
    "lateral_convs.#.conv.": "lateral.#.",
    "fpn_convs.#.conv.": "smooth.#.",
    "downsample_convs.#.conv.": "bottom_up.steps.#.down.",
    "pafpn_convs.#.conv.": "bottom_up.smooth.#.",
}
"""Prefix of parameter names of mmdetection's FPN and PAFPN -> prefix here; ``#`` stands for an index."""

RELEASE_MARK = "PPM_head."
"""Prefix of parameters that only the authors' DRFPN has."""


def rename_mmdet_weights(state_dict: MutableMapping[str, Any], prefix: str, neck: Neck) -> None:
    """Rename the parameters of mmdetection's FPN or PAFPN, or of the authors' DRFPN, in place; others are left.

    Args:
        state_dict: state dict of a detector.
        prefix: prefix of the neck's parameters in it.
        neck: the neck that the parameters are for.
    """
    names = [name.removeprefix(prefix) for name in state_dict if name.startswith(prefix)]
    release = any(name.startswith(RELEASE_MARK) for name in names)
    table = RELEASE_NAMES if release else MMDET_NAMES
    levels = len(neck.in_channels)
    for name in names:
        renamed = _rename(name, _extra_convs(levels, neck.extra_blocks) | table)
        if not release:
            renamed = _coarsest_lateral(renamed, levels, neck)
        if renamed != name:
            state_dict[f"{prefix}neck.{renamed}"] = state_dict.pop(prefix + name)


def rename_detectron2_weights(
    state_dict: MutableMapping[str, Any], prefix: str, neck: Neck, stages: Mapping[int, int]
) -> None:
    """Rename the parameters of detectron2's FPN in place; others are left.

    Args:
        state_dict: state dict of a detector.
        prefix: prefix of the backbone's parameters in it.
        neck: the neck that the parameters are for.
        stages: number of each of the backbone's levels (2 for P2) -> its index.
    """
    for name in [name.removeprefix(prefix) for name in state_dict if name.startswith(prefix)]:
        renamed = name
        if match := re.match(r"fpn_(lateral|output)(\d+)\.", name):
            index = stages.get(int(match[2]), -1)
            part = {"lateral": "lateral", "output": "smooth"}[match[1]]
            renamed = _coarsest_lateral(f"{part}.{index}.{name[match.end() :]}", len(neck.in_channels), neck)
        elif name.startswith("top_block."):
            renamed = "extra_blocks." + name.removeprefix("top_block.")
        if renamed != name:
            state_dict[f"{prefix}neck.{renamed}"] = state_dict.pop(prefix + name)


def _extra_convs(levels: int, extra_blocks: nn.Module | None) -> dict[str, str]:
    """Return the prefixes of the extra levels, which mmdetection lists behind the 3x3 convolutions of the others."""
    names = [name for name, _ in extra_blocks.named_children() if re.fullmatch(r"p\d+", name)] if extra_blocks else []
    return {f"fpn_convs.{levels + i}.conv.": f"extra_blocks.{name}." for i, name in enumerate(names)}


def _rename(name: str, table: Mapping[str, str]) -> str:
    for old, new in table.items():
        if match := re.match(re.escape(old).replace(r"\#", r"(\d+)"), name):
            return new.replace("#", match[1] if match.groups() else "") + name[match.end() :]
    return name


def _coarsest_lateral(name: str, levels: int, neck: Neck) -> str:
    """Return the name of the 1x1 convolution of the coarsest map, which a context module may contain."""
    last = f"lateral.{levels - 1}."
    if not name.startswith(last):
        return name
    own: Mapping[str, Tensor] = neck.state_dict()
    return ("top.reduce." if "top.reduce.weight" in own else "top.") + name.removeprefix(last)
