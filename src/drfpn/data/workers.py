"""Worker processes that read images."""

import gc
import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import wait

_GRACE = 10
"""Seconds that a worker lives on after SIGTERM: enough for the step in hand, short where it is the parent that asks."""


def begin_worker(worker: int) -> None:
    """Make a worker that reads images live as long as its parent, whatever signals come and however that ends.

    Ctrl-C and SIGTERM reach the whole group, and the parent ends its workers after the step. A parent that is killed
    cannot: a worker that was started through a server would wait for it for ever.
    """
    gc.freeze()  # what the parent made is not searched for garbage, which would copy all of it page by page
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(_GRACE))
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
