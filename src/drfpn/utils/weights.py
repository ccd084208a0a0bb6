"""State dicts: read from files without running them, and put into a module only where all of them fits."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from drfpn.utils.errors import UserError

_NAMED = 3
"""Tensors that a message names before it only counts."""


def read_weights(file: Path) -> dict[str, Tensor]:
    """Read a state dict from .safetensors or .pth; a file that would run code is refused."""
    if not file.is_file():
        raise UserError(f"There is no weights file {file}.")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load and safetensors raise whatever the bytes lead them to
        raise UserError(f"{file} is not a file of weights that can be read safely ({type(error).__name__}).") from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{file} does not hold a state dict of tensors.")
    return dict(state)


def read_card(file: Path) -> str | None:
    """Return the card that a run wrote into its .safetensors file, as JSON, or ``None`` if it is no such file."""
    try:
        with safe_open(file, "pt") as stream:
            return (stream.metadata() or {}).get("drfpn")
    except (SafetensorError, OSError):
        return None


def check_fit(own: Mapping[str, Tensor], given: Mapping[str, Tensor], of: str, file: str | Path | None = None) -> None:
    """Check that ``given`` has the names and shapes of ``own``.

    Args:
        own: what is to be filled.
        given: what it is to be filled with.
        of: whose tensors ``own`` are, for the message.
        file: where ``given`` comes from, for the message.

    Raises:
        UserError: names that are missing or unknown, the first few by name, or another shape.
    """
    weights = f"The weights in {file}" if file else "The weights"
    if missing := [name for name in own if name not in given]:
        raise UserError(f"{weights} lack {name_some(missing)}, which {of} needs.")
    if unknown := [name for name in given if name not in own]:
        raise UserError(f"{weights} hold {name_some(unknown)}, for which {of} has no place.")
    for name, value in given.items():
        if value.shape != own[name].shape:
            raise UserError(
                f"{weights} do not fit {of}: '{name}' is {tuple(value.shape)} but must be {tuple(own[name].shape)}."
            )


def load_exactly(module: nn.Module, given: Mapping[str, Tensor], of: str, file: str | Path | None = None) -> None:
    """Load ``given`` into ``module`` if it fits tensor by tensor, else raise as :func:`check_fit` does."""
    check_fit(module.state_dict(), given, of, file)
    module.load_state_dict(given)


def name_some(names: Iterable[str]) -> str:
    """Return the first few of ``names`` in quotes and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return ", ".join(f"'{name}'" for name in listed[:_NAMED]) + more
