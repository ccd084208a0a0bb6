"""Initialization of ``DataLoader`` worker processes: signals, garbage collection, and exit with the parent."""

import gc
import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import wait

_GRACE_PERIOD = 10
"""Seconds until a worker exits after SIGTERM: the parent may still need it for the current step."""


def init_worker(worker_id: int) -> None:
    """Make a worker live exactly as long as its parent: a ``worker_init_fn`` of ``DataLoader``.

    Ctrl-C and SIGTERM reach the whole process group, and the parent ends its workers after the current step. A parent
    that is killed cannot: a worker that was started through a fork server would wait for it forever.

    Args:
        worker_id: unused.
    """
    gc.freeze()  # a garbage collection would touch the objects of the parent, and so copy their memory pages
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(_GRACE_PERIOD))
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_with, args=(parent.sentinel,), daemon=True).start()


def _exit_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
