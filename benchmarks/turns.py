"""Timing of functions in turns, so that a varying load of the machine affects all of them."""

import sys
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

Key = TypeVar("Key", bound=Hashable)


def time_in_turns(functions: Mapping[Key, Callable[[], Any]], turns: int) -> dict[Key, list[float]]:
    """Return the seconds of each function in each turn, after a turn to warm up."""
    seconds: dict[Key, list[float]] = {name: [] for name in functions}
    for turn in range(turns + 1):
        print(f"turn {turn} of {turns}", file=sys.stderr)
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds
