"""``RunConfig``: the settings of a training run."""

import os
from collections.abc import Mapping
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from drfpn.data.augment.presets import PRESETS
from drfpn.detectors import DETECTORS, parse_name
from drfpn.necks.drfpn.conventions import DEFAULT_CONVENTION
from drfpn.utils import aliases
from drfpn.utils.aliases import rename_keys
from drfpn.utils.errors import UsageError, did_you_mean

SAVED = {"saved": True}
"""Validation context for settings that a run has saved, perhaps one of an earlier version."""

CHANGEABLE_ON_RESUME = {"workers", "save_every", "log_every", "loggers"}
"""Settings that do not affect the trained weights, so that a resumed run may change them."""


class RunConfig(BaseModel):
    """All settings of a training run; runs with the same settings and data have the same weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    data: str
    images: str | None = Field(None, description="folder of the images, for annotations in one file; null: beside it")
    train_split: str = "train"
    val_split: str = "val"
    max_train_images: int | None = Field(None, ge=1, description="train on the first N images of the split only")
    on_bad: Literal["error", "skip", "fix"] = Field("error", description="what to do about unusable images and boxes")
    crowd: Literal["ignore", "object"] = Field(
        "ignore", description="crowds and difficult objects: 'ignore' them, or use each as an 'object'"
    )

    scale: Literal["small", "paper"] = "paper"
    weights: str | None = Field(
        None,
        description="initial weights of the detector: 'torchvision' (COCO, downloaded), such a file, or a run, "
        "which may be on the Hub: hf:user/name",
    )
    torchvision_levels: bool | None = Field(
        None, description="P6 and P7 as in torchvision; null: if the weights are torchvision's"
    )
    weights_backbone: bool | str | None = None
    neck_options: dict[str, Any] = {}
    detector_options: dict[str, Any] = {}
    width: int = Field(256, ge=8, description="channels of the neck's output levels")
    min_size: int = Field(800, ge=32, description="shorter side of the image, pixels")
    max_size: int = Field(1333, ge=32, description="upper limit of the longer side, pixels")
    frozen_stages: int = Field(1, ge=-1, le=4, description="-1 none, 0 stem, 1 stem and stage of C2")
    norm_eval: bool = Field(True, description="keep the backbone's BatchNorm in evaluation mode")

    epochs: int = Field(12, ge=1)
    milestones: list[int] = Field([8, 11], description="epochs after which the learning rate is divided by 10")
    batch_size: int = Field(16, ge=1, description="images in a step, over all devices")
    base_lr: float = Field(0.02, gt=0, description="learning rate for a batch of 16 images, scaled linearly")
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0)
    warmup_steps: int = Field(500, ge=0, description="steps of linear warm-up, at most a quarter of the run")
    clip_norm: float | None = Field(None, gt=0, description="maximum norm of the gradient")
    lr_schedule: Literal["step", "cosine"] = Field("step", description="'step' uses the milestones, 'cosine' does not")
    grad_accum_steps: int = Field(1, ge=1, description="gradient accumulation steps: parts of a batch, to save memory")
    amp: Literal["off", "bf16", "fp16"] = Field("off", description="precision of the network; losses are float32")
    ema: float | None = Field(None, gt=0, lt=1, description="decay of a moving average of the weights to evaluate")
    patience: int | None = Field(None, ge=1, description="evaluations without a better AP before the run stops early")
    deterministic: bool = Field(False, description="use only deterministic operators, on GPUs too")
    transforms: Literal["basic", "photometric", "multiscale", "lsj", "copy_paste"] = Field(
        "basic", description="augmentation of training images besides the flip"
    )
    train_tile: int = Field(
        0, ge=0, description="side of random tiles of large training images, pixels; 0: whole images"
    )
    hflip_prob: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip")
    seed: int = Field(0, ge=0)
    workers: int = Field(min(4, max(0, (os.cpu_count() or 1) - 1)), ge=0, description="processes that load images")
    eval_every: int = Field(1, ge=0, description="epochs between evaluations; 0: only after the last")
    save_every: int = Field(200, ge=1, description="steps between saved states, the most that a crash can cost")
    log_every: int = Field(20, ge=1, description="steps between rows of steps.jsonl")
    loggers: list[str] = Field([], description="in addition to JSON lines and CSV: tensorboard, wandb, mlflow")

    @model_validator(mode="before")
    @classmethod
    def _rename_keys(cls, values: Any) -> Any:
        return rename_keys(values, aliases.SETTINGS) if isinstance(values, Mapping) else values

    @model_validator(mode="before")
    @classmethod
    def _add_convention(cls, values: Any, info: ValidationInfo) -> Any:
        """Add DRFPN's convention, so that a run keeps it even if the default changes."""
        options = values.get("neck_options", {}) if isinstance(values, Mapping) else None
        if not isinstance(options, Mapping) or not str(values.get("model")).endswith("_drfpn"):
            return values
        # runs that saved none are from when the paper's convention was the default
        convention = "paper" if (info.context or {}).get("saved") else DEFAULT_CONVENTION
        return {**values, "neck_options": {"convention": convention} | dict(options)}

    @field_validator("amp", mode="before")
    @classmethod
    def _amp_off(cls, value: Any) -> Any:
        return "off" if value is False else value  # YAML reads a bare off as false

    @property
    def masks(self) -> bool:
        """Whether the detector is trained with masks."""
        return DETECTORS[parse_name(self.model)[0]].masks

    @property
    def needs_masks(self) -> bool:
        """Whether training images must have masks, for the detector or for copy-paste augmentation."""
        return self.masks or PRESETS[self.transforms].copy_paste

    @property
    def has_torchvision_levels(self) -> bool:
        """Whether P6 and P7 are computed as in torchvision."""
        return self.weights is not None if self.torchvision_levels is None else self.torchvision_levels

    @property
    def lr(self) -> float:
        """Learning rate for ``batch_size`` by the linear scaling rule (Goyal et al., 2017)."""
        return self.base_lr * self.batch_size / 16

    def changed(self, other: "RunConfig") -> list[str]:
        """Return the names of the settings that differ from those of ``other`` and affect the trained weights.

        Args:
            other: the settings to compare with.
        """
        names = [name for name in type(self).model_fields if name not in CHANGEABLE_ON_RESUME]
        return [name for name in names if getattr(self, name) != getattr(other, name)]

    def to_yaml(self) -> str:
        """Return all settings as YAML, one a line, in the order of this class."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def check_config(values: Mapping[str, Any], *, saved: bool = False) -> RunConfig:
    """Validate settings.

    Args:
        values: settings by name; former names are accepted.
        saved: whether a run has saved them, see ``SAVED``.

    Raises:
        UsageError: an unknown setting, with the nearest known one, or a value out of range.
    """
    values = rename_keys(values, aliases.SETTINGS)
    for key in values:
        if key not in RunConfig.model_fields:
            raise UsageError(
                f"Unknown setting '{key}'.{did_you_mean(key, [*RunConfig.model_fields, *aliases.SETTINGS])}"
            )
    try:
        return RunConfig.model_validate(values, context=SAVED if saved else None)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"Setting '{key}' is {first['input']!r}: {first['msg']}.") from error
