"""Checks and former names of the options that users give to detectors and necks."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from drfpn.utils.aliases import SETTINGS, rename_keys
from drfpn.utils.errors import UsageError, did_you_mean

_NOT_OPTIONS = {
    *("self", "body", "neck", "backbone", "num_classes", "in_channels", "out_channels", "extra_blocks"),
    *("rpn_anchor_generator", "rpn_head", "box_roi_pool", "box_head", "box_predictor", "anchor_generator", "head"),
}
"""Parameters that follow from the model's name and its other arguments."""

_PREFIX = "detector_options."
DETECTOR_OPTION_ALIASES = {
    former.removeprefix(_PREFIX): name.removeprefix(_PREFIX)
    for former, name in SETTINGS.items()
    if former.startswith(_PREFIX)
}
"""Options of detectors, former name -> name."""


def check_options(options: Mapping[str, Any], kind: str, *callables: Callable[..., Any]) -> None:
    """Check that each option is a keyword of one of ``callables``.

    Args:
        options: keyword -> value.
        kind: what they are, for the message, such as ``"option of the neck 'drfpn'"``.
        callables: functions or classes that take the options.

    Raises:
        UsageError: an unknown option, with the most similar known one.
    """
    known = {
        parameter.name
        for call in callables
        for parameter in inspect.signature(call).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    } - _NOT_OPTIONS
    for key in options:
        if key not in known:
            raise UsageError(f"'{key}' is not an {kind}.{did_you_mean(key, known)}")


def rename_detector_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of a detector with former names replaced by the present ones; each is logged as a warning.

    Raises:
        UsageError: a former name is given beside the present one.
    """
    return rename_keys(options, DETECTOR_OPTION_ALIASES, note=True)
