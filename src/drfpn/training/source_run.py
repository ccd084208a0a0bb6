"""The run that another run takes its initial weights from: its settings, and whether its detector is the same."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from drfpn.detectors import parse_name
from drfpn.training.config import SAVED, RunConfig
from drfpn.utils.errors import UsageError, UserError
from drfpn.utils.hub import is_hub_name
from drfpn.utils.runs import find_weights, locate_run
from drfpn.utils.weights import read_card

MODEL_SETTINGS = (
    *("scale", "width", "min_size", "max_size", "frozen_stages", "norm_eval", "detector_options"),
    "torchvision_levels",
)
"""Settings that the weights of a run depend on, or that affect its detections."""


def is_run(weights: str | None) -> bool:
    """Return whether ``weights`` name a run: its folder, a .safetensors file that it wrote, or its name on the Hub.

    Args:
        weights: the setting of that name.
    """
    if weights is None or weights == "torchvision":
        return False
    path = Path(weights)
    if is_hub_name(path):
        return True
    return path.is_dir() or (path.suffix == ".safetensors" and path.is_file() and read_card(path) is not None)


def check_weights(weights: str | None) -> None:
    """Check that ``weights`` exist; those of a run on the Hub are downloaded.

    Args:
        weights: the setting of that name.

    Raises:
        UsageError: they are neither a file nor a folder, nor ``"torchvision"``, nor a run on the Hub.
        UserError: the run is not on the Hub, or cannot be downloaded.
    """
    if weights not in (None, "torchvision") and not locate_run(str(weights)).exists():
        raise UsageError(
            f"There is no run or weights file {weights}: give a run's folder, a file of weights, 'torchvision', or "
            "hf:user/name for a run on the Hugging Face Hub."
        )


def settings_of_run(model: str, weights: str) -> dict[str, Any]:
    """Return the settings that a new run inherits from the run whose weights it starts from.

    Args:
        model: name of the new run's model.
        weights: folder, .safetensors file or name on the Hub of the other run.

    Raises:
        UserError: ``weights`` are not those of a run.
        UsageError: the other run has another detector or backbone.
    """
    file = find_weights(weights)
    try:
        config = RunConfig.model_validate(json.loads(read_card(file) or "{}").get("config"), context=SAVED)
    except ValidationError as error:
        raise UserError(f"{file} holds no card of a drfpn detector, so its model and classes are not known.") from error
    check_same_detector(model, config.model, weights)
    settings = {name: getattr(config, name) for name in MODEL_SETTINGS}
    if parse_name(model)[-1] == parse_name(config.model)[-1]:
        settings["neck_options"] = config.neck_options
    return settings | {"torchvision_levels": config.has_torchvision_levels, "weights_backbone": None}


def check_same_detector(model: str, source_model: str, weights: str) -> None:
    """Check that two models have the same detector and backbone; their necks may differ.

    Args:
        model: name of the new model.
        source_model: name of the model that ``weights`` are of.
        weights: where the weights are, for the message.

    Raises:
        UsageError: they do not.
    """
    *ours, _ = parse_name(model)
    *theirs, _ = parse_name(source_model)
    if ours != theirs:
        raise UsageError(
            f"{weights} is a {source_model}, and {model} can start only from the weights of a {'_'.join(ours)}_*: only "
            f"the neck may differ, such as {'_'.join(theirs)}_drfpn."
        )
