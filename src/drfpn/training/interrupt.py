"""SIGINT and SIGTERM: the first one stops a run at the end of its step, the second one immediately."""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from drfpn.utils import distributed


class InterruptHandler:
    """Context manager that stores the first SIGINT or SIGTERM and then restores the previous handlers."""

    def __init__(self) -> None:
        self.signal_number = 0
        """Number of the signal that was received; 0 if there was none."""
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "InterruptHandler":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._restore()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.signal_number = number
        self._restore()
        if distributed.rank() == 0:  # unbuffered: the signal may arrive while a buffer is being written
            os.write(2, b"stopping after this step; a second signal stops immediately\n")

    def _restore(self) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)
        self._previous = {}
