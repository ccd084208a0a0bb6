"""Stopping at the end of a step: the first SIGTERM or Ctrl-C asks, the second acts."""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from drfpn.utils import distributed
from drfpn.utils.errors import Stopped


class Interrupted(Stopped):
    """A run was stopped by a signal and has saved its state.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}", exit_code=128 + number)


class Interruption:
    """While entered, remembers the first SIGINT or SIGTERM as ``asked`` and leaves the second to act as ever."""

    def __init__(self) -> None:
        self.asked = 0
        """Number of the signal; 0 where there was none."""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._restore()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = number
        self._restore()
        if distributed.rank() == 0:  # written past the buffers, which the signal may have caught half-way
            os.write(2, b"stopping after this step; once more stops at once\n")

    def _restore(self) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before = {}
