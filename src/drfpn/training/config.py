"""The settings of a run: checked, with units, saved beside its weights."""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from drfpn.backbones import BACKBONES, pypi_weights_file
from drfpn.data.augment.presets import PRESETS
from drfpn.detectors import DETECTORS, parse_name
from drfpn.necks.drfpn.neck import DEFAULT_CONVENTION
from drfpn.utils.errors import UserError, did_you_mean
from drfpn.utils.runs import find_weights
from drfpn.utils.weights import read_card


class RunConfig(BaseModel):
    """Everything that decides what a training run does; the same settings and data give the same weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    data: str
    train_split: str = "train"
    val_split: str = "val"
    first: int | None = Field(None, ge=1, description="take the first N images of the training split only")
    on_bad: Literal["error", "skip", "fix"] = Field("error", description="what to do about unusable images and boxes")

    scale: Literal["small", "paper"] = "paper"
    weights: str | None = Field(
        None, description="of a detector to begin with: 'torchvision' (COCO, fetched), a file of that kind, or a run"
    )
    torchvision_levels: bool | None = Field(
        None, description="P6 and P7 as in torchvision; null: where weights are torchvision's"
    )
    weights_backbone: bool | str | None = None
    neck_options: dict[str, Any] = {}
    detector_options: dict[str, Any] = {}
    width: int = Field(256, ge=8, description="channels of the pyramid")
    min_size: int = Field(800, ge=32, description="shorter side of the image, pixels")
    max_size: int = Field(1333, ge=32, description="longest longer side, pixels")
    frozen_stages: int = Field(1, ge=-1, le=4, description="-1 none, 0 stem, 1 stem and stage of C2")
    norm_eval: bool = Field(True, description="the backbone's BatchNorm keeps its statistics")

    epochs: int = Field(12, ge=1)
    milestones: list[int] = Field([8, 11], description="epochs after which the rate is divided by 10")
    batch_size: int = Field(16, ge=1, description="images a step")
    lr_per_16: float = Field(0.02, gt=0, description="learning rate at 16 images a step; scaled by the real batch")
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0)
    warmup_steps: int = Field(500, ge=0, description="steps of linear warm-up, at most a quarter of the run")
    clip_norm: float | None = Field(None, gt=0, description="largest norm of the gradient")
    decay: Literal["step", "cosine"] = Field("step", description="how the rate falls; 'cosine' needs no milestones")
    accumulate: int = Field(1, ge=1, description="parts that a step's images are taken in, to save memory")
    amp: Literal["off", "bf16", "fp16"] = Field("off", description="precision of the network; losses and boxes keep 32")
    ema: float | None = Field(None, gt=0, lt=1, description="moving average of the weights that is measured: its decay")
    patience: int | None = Field(None, ge=1, description="stop after so many evaluations without a better AP")
    deterministic: bool = Field(False, description="only operators that give the same bits each time, on GPUs too")
    transforms: Literal["basic", "photometric", "multiscale", "lsj", "copy_paste"] = Field(
        "basic", description="what happens to training images besides the flip"
    )
    flip: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip")
    seed: int = Field(0, ge=0)
    workers: int = Field(min(4, max(0, (os.cpu_count() or 1) - 1)), ge=0, description="processes that read images")
    eval_every: int = Field(1, ge=0, description="epochs between evaluations; 0: only after the last")
    save_every: int = Field(200, ge=1, description="steps between saved states: what a kill can cost")
    log_every: int = Field(20, ge=1, description="steps between rows of steps.jsonl")
    loggers: list[str] = Field([], description="besides JSON lines and CSV: tensorboard, wandb, mlflow")

    @model_validator(mode="before")
    @classmethod
    def _write_convention_down(cls, values: Any, info: ValidationInfo) -> Any:
        """Name DRFPN's convention, so that a run keeps it whatever the default becomes."""
        options = values.get("neck_options", {}) if isinstance(values, Mapping) else None
        if not isinstance(options, Mapping) or not str(values.get("model")).endswith("_drfpn"):
            return values
        # settings that were saved without one are of the time when the paper's was the default
        convention = "paper" if (info.context or {}).get("saved") else DEFAULT_CONVENTION
        return {**values, "neck_options": {"convention": convention} | dict(options)}

    @field_validator("amp", mode="before")
    @classmethod
    def _off_is_a_word(cls, value: Any) -> Any:
        return "off" if value is False else value  # YAML reads a bare off as false

    @property
    def masks(self) -> bool:
        """Whether the detector learns from masks."""
        return DETECTORS[parse_name(self.model)[0]].masks

    @property
    def needs_masks(self) -> bool:
        """Whether training images must have masks: to learn from, or to cut objects out by."""
        return self.masks or PRESETS[self.transforms].pastes

    @property
    def has_torchvision_levels(self) -> bool:
        """Whether P6 and P7 are made as in torchvision."""
        return self.weights is not None if self.torchvision_levels is None else self.torchvision_levels

    @property
    def lr(self) -> float:
        """Learning rate of this batch size by the linear rule."""
        return self.lr_per_16 * self.batch_size / 16

    def changed(self, other: "RunConfig") -> list[str]:
        """Return the settings that differ and change what the run ends with."""
        names = [name for name in type(self).model_fields if name not in FREE]
        return [name for name in names if getattr(self, name) != getattr(other, name)]

    def to_yaml(self) -> str:
        """Return all settings as YAML, one a line, in the order of this class."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


SAVED = {"saved": True}
"""Context for validating settings that an earlier run, perhaps of an earlier version, has saved."""

FREE = {"workers", "save_every", "log_every", "loggers"}
"""Settings that a resumed run may change: its weights do not depend on them."""

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
"""What a scale sets: ``paper`` is the paper's protocol, ``small`` trains on two CPU cores in minutes."""

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
"""What the scale ``small`` sets in each detector."""

MODEL_SETTINGS = (
    *("scale", "width", "min_size", "max_size", "frozen_stages", "norm_eval", "detector_options"),
    "torchvision_levels",
)
"""Settings that the weights of a run depend on, or that decide what they detect."""

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
    """Make the settings of a run: the scale's, then the schedule's, then what the user says.

    Where it begins with the ``weights`` of another run, what these depend on is that run's unless the user says it.

    Args:
        model: name of a model.
        data: name of a data set.
        scale: ``"small"``, ``"paper"``, or ``None`` for the one that suits the backbone.
        schedule: ``"1x"`` or ``"2x"``.
        epochs: their number; the milestones move along.
        overrides: ``key=value`` with dots for keys inside (``neck_options.convention=release``), values as YAML.
        settings: fields of ``RunConfig``.

    Raises:
        UserError: an unknown key (with the nearest) or a value out of range.
    """
    detector, body, _ = parse_name(model)
    said = _add_overrides({key: value for key, value in settings.items() if value is not None}, overrides)
    base = settings_of_run(model, said["weights"]) if is_run(said.get("weights")) else {}
    if scale is not None:  # what it sets is not taken from the run
        base = {key: value for key, value in base.items() if key not in ("scale", "detector_options", *SCALES["small"])}
    scale = scale or base.get("scale") or ("small" if body in _SMALL_BACKBONES else "paper")
    if scale not in SCALES:
        raise UserError(f"scale must be one of {', '.join(SCALES)}, not '{scale}'.", exit_code=2)
    values: dict[str, Any] = {"model": model, "data": data, "scale": scale} | SCALES[scale]
    if scale == "small":
        values["detector_options"] = SMALL_DETECTORS[detector]
    if schedule is not None:
        if schedule not in SCHEDULES:
            raise UserError(f"schedule must be one of {', '.join(SCHEDULES)}, not '{schedule}'.", exit_code=2)
        values["epochs"], values["milestones"] = SCHEDULES[schedule]
    if epochs is not None:
        values["epochs"] = epochs
        values["milestones"] = [max(1, round(epochs * part)) for part in (8 / 12, 11 / 12)]
    if body in ("lite0", BACKBONES["lite0"]) and pypi_weights_file() is not None:
        values["weights_backbone"] = "pypi"
    values = _merge(values | base, said)
    if values.get("weights") is None and values.get("weights_backbone") in (None, False):
        # a random backbone must learn everywhere, and its BatchNorm needs statistics
        values = {"frozen_stages": -1, "norm_eval": False} | values
    return check_config(values)


def is_run(weights: str | None) -> bool:
    """Say whether ``weights`` are those of a run of this library: its folder, or a file that it wrote."""
    if weights is None or weights == "torchvision":
        return False
    path = Path(weights)
    return path.is_dir() or (path.suffix == ".safetensors" and path.is_file() and read_card(path) is not None)


def check_weights(weights: str | None) -> None:
    """Raise ``UserError`` where ``weights`` name neither a file nor a folder."""
    if weights not in (None, "torchvision") and not Path(str(weights)).exists():
        raise UserError(
            f"There is no run or weights file {weights}: give a run's folder, a file of weights, or 'torchvision'.",
            exit_code=2,
        )


def settings_of_run(model: str, weights: str) -> dict[str, Any]:
    """Return the settings that a run of ``model`` takes over from the run whose weights it begins with.

    Raises:
        UserError: ``weights`` are no run's, or those of another detector or backbone.
    """
    file = find_weights(Path(weights))
    try:
        config = RunConfig.model_validate(json.loads(read_card(file) or "{}").get("config"), context=SAVED)
    except ValidationError as error:
        raise UserError(f"{file} holds no card of a drfpn detector, so its model and classes are not known.") from error
    check_same(model, config.model, weights)
    settings = {name: getattr(config, name) for name in MODEL_SETTINGS}
    if parse_name(model)[-1] == parse_name(config.model)[-1]:
        settings["neck_options"] = config.neck_options
    return settings | {"torchvision_levels": config.has_torchvision_levels, "weights_backbone": None}


def check_same(model: str, other: str, weights: str) -> None:
    """Raise ``UserError`` where ``model`` is another detector than ``other``, whose ``weights`` it is to begin with."""
    *ours, _ = parse_name(model)
    *theirs, _ = parse_name(other)
    if ours != theirs:
        raise UserError(
            f"{weights} is a {other}, and {model} can begin only with the weights of a {'_'.join(ours)}_*: only the "
            f"pyramid may differ, such as {'_'.join(theirs)}_drfpn.",
            exit_code=2,
        )


def check_config(values: Mapping[str, Any], *, saved: bool = False) -> RunConfig:
    """Check settings, with one sentence for the first that is wrong.

    Args:
        values: the settings by name.
        saved: whether an earlier run has saved them.
    """
    for key in values:
        if key not in RunConfig.model_fields:
            raise UserError(f"Unknown setting '{key}'.{did_you_mean(key, RunConfig.model_fields)}", exit_code=2)
    try:
        return RunConfig.model_validate(values, context=SAVED if saved else None)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UserError(f"Setting '{key}' is {first['input']!r}: {first['msg']}.", exit_code=2) from error


def read_config(file: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read the settings that a run saved, and change some as in :func:`resolve`."""
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{file} cannot be read as the settings of a run ({type(error).__name__}).") from error
    if not isinstance(values, dict):
        raise UserError(f"{file} must hold settings as 'key: value', found {type(values).__name__}.")
    saved = check_config(values, saved=True)  # names DRFPN's convention where the file does not
    if not overrides:
        return saved
    said = _add_overrides({}, overrides)
    values = saved.model_dump(mode="json")
    model = said.get("model", saved.model)
    if parse_name(model)[-1] != parse_name(saved.model)[-1]:
        values["neck_options"] = {}  # those of another pyramid
    if is_run(said.get("weights")):
        values["torchvision_levels"] = settings_of_run(model, said["weights"])["torchvision_levels"]
    return check_config(_merge(values, said))


def _add_overrides(said: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return settings with each override merged in, in their order."""
    for override in overrides:
        said = _merge(said, _parse_override(override))
    return said


def _parse_override(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"-o takes key=value, not '{text}'.", exit_code=2)
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UserError(f"-o {key}: '{value}' is not a value that YAML can read.", exit_code=2) from error
    if isinstance(parsed, str):
        with suppress(ValueError):
            parsed = float(parsed)  # YAML reads 1e-4 as text
    for part in reversed(key.split(".")):
        parsed = {part: parsed}
    return dict(parsed)


def _merge(values: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for key, value in more.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged
