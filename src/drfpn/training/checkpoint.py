"""Checkpoints: weights with their card (.safetensors), and the state of training (.pt, tensors and numbers only)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import BaseModel, ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from drfpn.detectors import build_detector
from drfpn.detectors.base import Detector
from drfpn.training.config import SAVED, RunConfig
from drfpn.utils.errors import UserError
from drfpn.utils.hub import is_hub_name
from drfpn.utils.io import open_atomically, write_atomically
from drfpn.utils.runs import find_weights
from drfpn.utils.weights import check_state_dict, load_strict

_OF_CARD = "the detector of its card"


class Card(BaseModel):
    """Metadata stored with the weights of a detector, so that they can be used without their run."""

    config: RunConfig
    classes: tuple[str, ...]
    """Class names; label k is ``classes[k - 1]``."""
    category_ids: tuple[int, ...]
    """Id of each class in the data set, for COCO results."""
    epoch: int = 0
    metrics: dict[str, float] = {}
    """COCO's metrics on the validation split, in [0, 1], those that are defined; names of mask metrics start with
    ``mask_``."""
    versions: dict[str, str] = {}

    @model_validator(mode="after")
    def _check_ids(self) -> Self:
        if len(self.classes) != len(self.category_ids):
            raise ValueError(f"{len(self.classes)} classes have {len(self.category_ids)} ids")
        return self


def build(card: Card, *, pretrained: bool = False) -> Detector:
    """Build the detector of a card.

    Args:
        card: settings and classes.
        pretrained: load the initial weights of the run, ``weights`` and ``weights_backbone``.

    Raises:
        UserError: initial weights that cannot be read or do not fit.
    """
    config = card.config
    return build_detector(
        config.model,
        len(card.classes),
        weights=config.weights if pretrained else None,
        weights_backbone=config.weights_backbone if pretrained else None,
        neck_options=config.neck_options,
        width=config.width,
        frozen_stages=config.frozen_stages,
        norm_eval=config.norm_eval,
        torchvision_levels=config.has_torchvision_levels,
        min_size=config.min_size,
        max_size=config.max_size,
        **config.detector_options,
    )


def save_detector(file: Path, model: nn.Module, card: Card) -> None:
    """Write the weights of a detector and its card to a .safetensors file, atomically.

    Args:
        file: the .safetensors file.
        model: the detector.
        card: its card.
    """
    tensors = {name: value.contiguous().cpu() for name, value in model.state_dict().items()}
    write_atomically(file, save(tensors, metadata={"drfpn": card.model_dump_json()}))


def load_detector(run_or_file: str | Path) -> tuple[Detector, Card]:
    """Load a trained detector in evaluation mode.

    Args:
        run_or_file: a run folder, a .safetensors file that a run wrote, or the name of a run on the Hugging Face Hub,
            ``"hf:user/name"`` or ``"hf:user/name@revision"``, whose weights are downloaded into the Hub's cache.

    Raises:
        UserError: no such file or run, a file of another kind (no code in it is ever run), or weights that do not fit.
    """
    file = find_weights(run_or_file)
    card, tensors = _read_weights(file, card_only=False)
    if is_hub_name(run_or_file):  # settings of somebody else, who may have chosen them to exhaust the memory
        with torch.device("meta"):
            check_state_dict(_build_from(card, file).state_dict(), tensors, _OF_CARD, file)
    model = _build_from(card, file)
    load_strict(model, tensors, _OF_CARD, file)
    return model.eval().to(memory_format=torch.channels_last), card


def _build_from(card: Card, file: Path) -> Detector:
    """Build the detector of a card that was read from ``file``.

    Raises:
        UserError: its settings do not fit a detector.
    """
    try:
        return build(card)
    except UserError as error:
        raise UserError(f"{file}: the settings in its card cannot be used: {error}") from error
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{file}: the settings in its card cannot be used: {reason}") from error


def load_card(run_or_file: str | Path) -> Card:
    """Return the card of a trained detector, without loading its weights.

    Args:
        run_or_file: as of :func:`load_detector`.

    Raises:
        UserError: no such file, or a file of another kind.
    """
    return _read_weights(find_weights(run_or_file), card_only=True)[0]


def _read_weights(file: Path, *, card_only: bool) -> tuple[Card, dict[str, Tensor]]:
    try:
        with safe_open(file, "pt") as stream:
            metadata = stream.metadata() or {}
            names = [] if card_only else list(stream.keys())
            tensors = {name: stream.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file} is not a safetensors file that can be read: {error}.") from error
    try:
        return Card.model_validate_json(metadata["drfpn"], context=SAVED), tensors
    except (KeyError, ValidationError) as error:
        raise UserError(f"{file} holds no card of a drfpn detector, so its model and classes are not known.") from error


def save_state(file: Path, state: Mapping[str, Any]) -> None:
    """Write a training state, atomically.

    Args:
        file: the .pt file.
        state: tensors, numbers and text in plain dicts and lists.
    """
    with open_atomically(file) as stream:
        torch.save(dict(state), stream)


def load_state(file: Path) -> dict[str, Any]:
    """Read what :func:`save_state` wrote.

    Args:
        file: the .pt file.

    Raises:
        UserError: the file is missing, damaged, or would run code.
    """
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"There is nothing to resume: {file} is missing.") from error
    except Exception as error:  # torch.load raises errors of any type for damaged files
        raise UserError(f"{file} is not a training state that can be read safely ({type(error).__name__}).") from error
    return dict(state)
