"""Look-up of an option's value in a table of named choices."""

from collections.abc import Mapping
from typing import TypeVar

from drfpn.utils.errors import UsageError, did_you_mean

Choice = TypeVar("Choice")


def choose(key: str, name: str, choices: Mapping[str, Choice], *others: str) -> Choice:
    """Return the entry of a table of named choices.

    Args:
        key: name of the option, for the message.
        name: value of the option.
        choices: name -> what it stands for.
        others: what else the option may be, in words, for the message.

    Raises:
        UsageError: an unknown name; the message lists the known ones and suggests the most similar.
    """
    if not isinstance(name, str) or name not in choices:
        *first, last = [*(repr(choice) for choice in choices), *others]
        known = f"{', '.join(first)} or {last}" if first else last
        raise UsageError(f"`{key}` must be {known}, not {name!r}.{did_you_mean(str(name), choices)}")
    return choices[name]
