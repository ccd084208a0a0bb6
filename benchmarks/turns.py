"""Works that take their turns in one process, so that a machine that slows down slows down all."""

import sys
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

Key = TypeVar("Key", bound=Hashable)


def take_turns(works: Mapping[Key, Callable[[], Any]], turns: int) -> dict[Key, list[float]]:
    """Return the seconds of each work in each turn, after one to warm up."""
    taken: dict[Key, list[float]] = {name: [] for name in works}
    for turn in range(turns + 1):
        print(f"turn {turn} of {turns}", file=sys.stderr)
        for name, work in works.items():
            began = time.perf_counter()
            work()
            if turn:
                taken[name].append(time.perf_counter() - began)
    return taken
