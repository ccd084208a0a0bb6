"""Arguments and settings in messages, written as what to type on the command line."""

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import typer

_QUOTED = re.compile(r"(?<!`)`([A-Za-z_][\w.]*)(?:=([^`]*))?`(?!`)")

_YAML = {"None": "null", "True": "true", "False": "false"}


def parameters_of(app: typer.Typer, arguments: Sequence[str]) -> dict[str, Any]:
    """Return the parameters of the command that is called, by their names in Python.

    Args:
        app: all commands.
        arguments: command line without the name of the program.
    """
    command: Any = typer.main.get_command(app)
    for argument in arguments:
        if not hasattr(command, "commands"):
            break
        if argument in command.commands:
            command = command.commands[argument]
    return {parameter.name.rstrip("_"): parameter for parameter in command.params}


def render(message: str, parameters: Mapping[str, Any]) -> str:
    """Replace arguments and settings in backquotes by what to type.

    ``resume=True`` becomes ``--resume``, ``on_bad='skip'`` becomes ``--on-bad skip``, and a setting without an option,
    such as ``batch_size=8``, becomes ``-o batch_size=8``. Other names lose their backquotes.

    Args:
        message: message of the library.
        parameters: parameters of the command that is called, by name.
    """
    return _QUOTED.sub(lambda match: _render(match, parameters), message)


def _render(match: re.Match[str], parameters: Mapping[str, Any]) -> str:
    name, value = match[1], match[2]
    if name in parameters:
        return _option(parameters[name], value)
    if _is_setting(name) or (value is not None and "override" in parameters):
        return f"-o {name}" if value is None else f"-o {shlex.quote(f'{name}={_YAML.get(value, _unquoted(value))}')}"
    return match[0].strip("`")


def _option(parameter: Any, value: str | None) -> str:
    """Write a parameter of a command, perhaps with a value in Python's notation."""
    if parameter.param_type_name == "argument":
        name = parameter.metavar or parameter.name.upper()
        return str(name) if value is None else _unquoted(value)
    option = max(parameter.opts, key=len)
    if getattr(parameter, "is_flag", False):
        without = parameter.secondary_opts[0] if parameter.secondary_opts else f"no {option}"
        return without if value == "False" else option
    return option if value is None else f"{option} {shlex.quote(_unquoted(value))}"


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value


def _is_setting(name: str) -> bool:
    from drfpn.training import RunConfig

    return name.partition(".")[0] in RunConfig.model_fields
