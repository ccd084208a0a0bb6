"""The settings of a run from a scale, a schedule, a file and overrides."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from drfpn.backbones import BACKBONES, pypi_weights_file
from drfpn.detectors import parse_name
from drfpn.training.config import RunConfig, check_config
from drfpn.training.source_run import is_run, settings_of_run
from drfpn.utils import aliases
from drfpn.utils.aliases import check_spellings, rename_keys
from drfpn.utils.errors import UsageError, UserError

SCALES: dict[str, dict[str, Any]] = {
    "paper": {},
    "small": {
        "width": 64,
        "min_size": 240,
        "max_size": 320,
        "batch_size": 8,
        "warmup_steps": 50,
        "clip_norm": 10.0,
    },
}
"""Settings of each scale: ``paper`` is the paper's protocol, ``small`` trains on two CPU cores in minutes."""

_SMALL_TWO_STAGE = {
    "anchor_scale": 4,
    "representation_size": 256,
    "rpn_pre_nms_top_n_train": 500,
    "rpn_pre_nms_top_n_test": 500,
    "rpn_post_nms_top_n_train": 500,
    "rpn_post_nms_top_n_test": 300,
    "box_batch_size_per_image": 128,
}
SMALL_DETECTORS: dict[str, dict[str, Any]] = {
    "faster_rcnn": _SMALL_TWO_STAGE,
    "mask_rcnn": _SMALL_TWO_STAGE,
    "cascade_rcnn": _SMALL_TWO_STAGE,
    "cascade_mask_rcnn": _SMALL_TWO_STAGE,
    "retinanet": {"anchor_scale": 2},
    "fcos": {},
}
"""``detector_options`` of the scale ``small`` for each detector."""

SCHEDULES = {"1x": (12, [8, 11]), "2x": (24, [16, 22])}
"""Epochs and milestones of the paper's schedules."""

_SMALL_BACKBONES = {"lite0", BACKBONES["lite0"], "r18", BACKBONES["r18"], "regnety_004"}


def resolve(
    model: str,
    data: str,
    *,
    scale: str | None = None,
    schedule: str | None = None,
    epochs: int | None = None,
    overrides: Sequence[str] = (),
    **settings: Any,
) -> RunConfig:
    """Return the settings of a run: those of the scale and the schedule, overridden by the user's.

    A run that starts from the ``weights`` of another run inherits the settings that these depend on.

    Args:
        model: name of a model, see :func:`drfpn.list_models`.
        data: name of a data set, or its path.
        scale: ``"small"``, ``"paper"``, or ``None`` for the one that suits the backbone.
        schedule: ``"1x"`` or ``"2x"``.
        epochs: number of epochs; the milestones are scaled with it.
        overrides: ``key=value`` with dots for keys inside (``neck_options.convention=release``), values as YAML.
        **settings: fields of ``RunConfig``; ``None`` leaves the default.

    Raises:
        UsageError: an unknown setting, with the nearest known one, or a value out of range.
    """
    detector, body, _ = parse_name(model)
    chosen = {key: value for key, value in settings.items() if value is not None}
    chosen = _add_overrides(chosen, overrides)
    inherited = settings_of_run(model, chosen["weights"]) if is_run(chosen.get("weights")) else {}
    if scale is not None:  # an explicit scale takes precedence over the run's
        of_scale = ("scale", "detector_options", *SCALES["small"])
        inherited = {key: value for key, value in inherited.items() if key not in of_scale}
    scale = scale or inherited.get("scale") or ("small" if body in _SMALL_BACKBONES else "paper")
    if scale not in SCALES:
        raise UsageError(f"scale must be one of {', '.join(SCALES)}, not '{scale}'.")
    values: dict[str, Any] = {"model": model, "data": data, "scale": scale} | SCALES[scale]
    if scale == "small":
        values["detector_options"] = SMALL_DETECTORS[detector]
    if schedule is not None:
        if schedule not in SCHEDULES:
            raise UsageError(f"schedule must be one of {', '.join(SCHEDULES)}, not '{schedule}'.")
        values["epochs"], values["milestones"] = SCHEDULES[schedule]
    if epochs is not None:
        values["epochs"] = epochs
        values["milestones"] = [max(1, round(epochs * fraction)) for fraction in (8 / 12, 11 / 12)]
    if body in ("lite0", BACKBONES["lite0"]) and pypi_weights_file() is not None:
        values["weights_backbone"] = "pypi"
    values = _merge(values | inherited, chosen)
    if values.get("weights") is None and values.get("weights_backbone") in (None, False):
        # a randomly initialized backbone must be trained in all stages, and its BatchNorm needs statistics
        values = {"frozen_stages": -1, "norm_eval": False} | values
    return check_config(values)


def read_config(file: Path, overrides: Sequence[str] = (), *, note: bool = False) -> RunConfig:
    """Read the settings that a run saved, and override some as in :func:`resolve`.

    Args:
        file: config.yaml of a run.
        overrides: ``key=value``, as in :func:`resolve`.
        note: log a warning for each former name of a setting in the file.

    Raises:
        UserError: the file cannot be read, or does not hold settings.
        UsageError: an unknown setting, with the nearest known one, or a value out of range.
    """
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{file} cannot be read as the settings of a run ({type(error).__name__}).") from error
    if not isinstance(values, dict):
        raise UserError(f"{file} must hold settings as 'key: value', not {type(values).__name__}.")
    saved = check_config(rename_keys(values, aliases.SETTINGS, note=note), saved=True)
    if not overrides:
        return saved
    chosen = _add_overrides({}, overrides)
    values = saved.model_dump(mode="json")
    model = chosen.get("model", saved.model)
    if parse_name(model)[-1] != parse_name(saved.model)[-1]:
        values["neck_options"] = {}  # those of another neck
    if is_run(chosen.get("weights")):
        values["torchvision_levels"] = settings_of_run(model, chosen["weights"])["torchvision_levels"]
    return check_config(_merge(values, chosen))


def _add_overrides(settings: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return settings with the overrides merged into them, in their order, all under their present names.

    Raises:
        UsageError: a setting is given under its former and its present name.
    """
    given = [settings, *map(_parse_override, overrides)]
    check_spellings(given, aliases.SETTINGS)
    merged: dict[str, Any] = {}
    for values in given:
        merged = _merge(merged, rename_keys(values, aliases.SETTINGS, note=True))
    return merged


def _parse_override(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(f"An override is `key=value`, not '{text}'.")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UsageError(f"Setting '{key}': '{value}' is not a value that YAML can read.") from error
    if isinstance(parsed, str):
        with suppress(ValueError):
            parsed = float(parsed)  # YAML reads 1e-4 as text
    for part in reversed(key.split(".")):
        parsed = {part: parsed}
    return dict(parsed)


def _merge(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``values`` overridden by ``overrides``, with mappings inside merged."""
    merged = dict(values)
    for key, value in overrides.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged
