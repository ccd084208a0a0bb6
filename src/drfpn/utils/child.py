"""Command line in a process that ends with its parent: ``python -m drfpn.utils.child ARGUMENTS``."""

import ctypes
import os
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Stop this process as by SIGTERM, after saving its run, when its parent ends for any reason; on Linux only."""
    if sys.platform != "linux":
        return

    def stop(number: int, frame: object) -> None:
        # every thread of the parent sends this signal; a second SIGTERM would end the run before it is saved
        signal.signal(number, signal.SIG_IGN)
        os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGUSR1, stop)
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGUSR1)
    if os.getppid() != parent:  # the parent ended before prctl
        os.kill(os.getpid(), signal.SIGUSR1)


if __name__ == "__main__":
    end_with_parent()
    runpy.run_module("drfpn", run_name="__main__", alter_sys=True)
