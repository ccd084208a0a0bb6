"""Types of the callbacks that report the progress of reading and writing data sets."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

ProgressCallback = Callable[[int, int], None]
"""Called with the number of items done and the total number."""
ProgressFactory = Callable[[str], AbstractContextManager[ProgressCallback]]
"""Starts the progress display of one stage, given its title, and yields the callback for it."""


def no_progress(title: str) -> AbstractContextManager[ProgressCallback]:
    """Return a callback that displays nothing: a ``ProgressFactory``."""
    return nullcontext(lambda done, total: None)
