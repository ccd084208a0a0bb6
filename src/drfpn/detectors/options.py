"""Keywords that a user may set, and those that a detector decides itself."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from drfpn.utils.errors import UserError, did_you_mean

Part = TypeVar("Part")

_DECIDED = {
    *("self", "body", "neck", "backbone", "num_classes", "in_channels", "out_channels", "extra_blocks"),
    *("rpn_anchor_generator", "rpn_head", "box_roi_pool", "box_head", "box_predictor", "anchor_generator", "head"),
}
"""Parameters that are parts or sizes, which follow from the model's name and its other arguments."""


def check_keywords(given: Mapping[str, Any], what: str, *accepting: Callable[..., Any]) -> None:
    """Check that each key of ``given`` is a keyword of one of the ``accepting`` calls.

    Raises:
        UserError: a key that is not, with the nearest that is.
    """
    known = {
        parameter.name
        for call in accepting
        for parameter in inspect.signature(call).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    } - _DECIDED
    for key in given:
        if key not in known:
            raise UserError(f"'{key}' is not an {what}.{did_you_mean(key, known)}", exit_code=2)


def choose(key: str, name: str, parts: Mapping[str, Part]) -> Part:
    """Return the part of that name.

    Raises:
        UserError: there is none, with those that there are and the nearest.
    """
    if not isinstance(name, str) or name not in parts:
        *first, last = (repr(part) for part in parts)
        said = f"{key} must be {', '.join(first)} or {last}, not {name!r}.{did_you_mean(str(name), parts)}"
        raise UserError(said, exit_code=2)
    return parts[name]
