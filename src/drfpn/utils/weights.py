"""State dicts: read safely from files, and loaded into a module only if all tensors match."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from drfpn.utils.errors import UserError

_MAX_NAMES = 3
"""Number of names that a message lists."""


def read_weights(file: Path) -> dict[str, Tensor]:
    """Read a state dict.

    Args:
        file: .safetensors or .pth; a dict with the key ``state_dict``, as in mmdetection's checkpoints, is unpacked.

    Raises:
        UserError: the file is missing, is no state dict, or would run code.
    """
    if not file.is_file():
        raise UserError(f"There is no weights file {file}.")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load and safetensors raise errors of any type for damaged files
        raise UserError(f"{file} is not a file of weights that can be read safely ({type(error).__name__}).") from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{file} does not hold a state dict of tensors.")
    return dict(state)


def read_card(file: Path) -> str | None:
    """Return the card in a .safetensors file of a run, as JSON, ``None`` in another file.

    Args:
        file: any file.
    """
    try:
        with safe_open(file, "pt") as stream:
            return (stream.metadata() or {}).get("drfpn")
    except (SafetensorError, OSError):
        return None


def check_state_dict(
    expected: Mapping[str, Tensor], actual: Mapping[str, Tensor], of: str, file: str | Path | None = None
) -> None:
    """Check that two state dicts have the same names and shapes.

    Args:
        expected: state dict of a module.
        actual: state dict to load into it.
        of: name of the module, for messages.
        file: file of ``actual``, for messages.

    Raises:
        UserError: missing or unknown names, or a different shape.
    """
    weights = f"The weights in {file}" if file else "The weights"
    if missing := [name for name in expected if name not in actual]:
        raise UserError(f"{weights} lack {abbreviate_names(missing)}, which {of} needs.")
    if unknown := [name for name in actual if name not in expected]:
        raise UserError(f"{weights} hold {abbreviate_names(unknown)}, which {of} does not have.")
    for name, value in actual.items():
        shape = tuple(expected[name].shape)
        if value.shape != shape:
            raise UserError(f"{weights} do not fit {of}: '{name}' is {tuple(value.shape)} but must be {shape}.")


def load_strict(module: nn.Module, state: Mapping[str, Tensor], of: str, file: str | Path | None = None) -> None:
    """Load a state dict into a module if all names and shapes match.

    Args:
        module: the module.
        state: its state dict.
        of: name of the module, for messages.
        file: file of ``state``, for messages.

    Raises:
        UserError: as of :func:`check_state_dict`; the module is unchanged then.
    """
    check_state_dict(module.state_dict(), state, of, file)
    module.load_state_dict(state)


def abbreviate_names(names: Iterable[str]) -> str:
    """Return the first few names in quotes, and the number of the others.

    Args:
        names: names of tensors, for example.
    """
    listed = list(names)
    more = f" and {len(listed) - _MAX_NAMES} more" if len(listed) > _MAX_NAMES else ""
    return ", ".join(f"'{name}'" for name in listed[:_MAX_NAMES]) + more
