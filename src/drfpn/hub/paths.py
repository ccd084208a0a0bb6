"""Removal of the paths of this machine from what a run publishes."""

import re
from collections.abc import Collection
from pathlib import PureWindowsPath
from typing import Any

from drfpn.training.checkpoint import Card
from drfpn.utils.hub import is_hub_name
from drfpn.utils.runs import WEIGHTS

_ABSOLUTE = re.compile(r"(/|~|\\\\|[A-Za-z]:[\\/])")
"""Beginning of an absolute path, of any system."""


def last_name(path: str) -> str:
    r"""Return the name of the file or folder that a path ends with.

    Args:
        path: path of any system; ``\`` and ``/`` separate its parts. One without a name, such as ``..``, becomes
            ``"data"``.
    """
    return PureWindowsPath(path).name.strip(".") or "data"


def data_name(data: str) -> str:
    """Return the name of a data set, without the folders that it is in.

    Args:
        data: the setting of that name, such as ``"shapes"`` or ``"/home/user/dataset"``; of ``dataset/data.yaml`` the
            folder names the data set.
    """
    path = PureWindowsPath(data)
    return last_name(str(path.parent) if path.name in ("data.yaml", "data.yml") else data)


def strip_paths(value: Any, keep: Collection[str] = ()) -> Any:
    """Return a value of JSON in which each absolute path is replaced by its last name.

    Args:
        value: dicts, lists, texts and numbers.
        keep: texts that are not paths, such as names of classes.
    """
    if isinstance(value, dict):
        return {key: strip_paths(item, keep) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strip_paths(item, keep) for item in value]
    return last_name(value) if isinstance(value, str) and value not in keep and _ABSOLUTE.match(value) else value


def publishable_card(card: Card) -> Card:
    """Return a card whose settings have names in place of paths.

    Args:
        card: card of a run.
    """
    config = card.config
    changed: dict[str, Any] = {"data": data_name(config.data)}
    if config.images is not None:
        changed["images"] = last_name(config.images)
    if config.weights is not None and not is_hub_name(config.weights):
        changed["weights"] = _run_name(config.weights)
    if isinstance(config.weights_backbone, str):
        changed["weights_backbone"] = last_name(config.weights_backbone)
    for options in ("neck_options", "detector_options"):
        changed[options] = strip_paths(getattr(config, options))
    return card.model_copy(update={"config": config.model_copy(update=changed)})


def _run_name(weights: str) -> str:
    path = PureWindowsPath(weights)
    return last_name(str(path.parent) if path.name in WEIGHTS and path.parent.name else weights)
