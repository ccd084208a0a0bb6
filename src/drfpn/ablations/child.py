"""The command line in a process that ends with the one that started it: ``python -m drfpn.ablations.child ...``."""

import ctypes
import os
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Have Linux tell this process when its parent is gone, however it ended; it then saves its run and stops."""
    if sys.platform != "linux":
        return

    def stop(number: int, frame: object) -> None:
        # each thread of the parent sends one; a second SIGTERM would end the run before it has saved
        signal.signal(number, signal.SIG_IGN)
        os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGUSR1, stop)
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGUSR1)
    if os.getppid() != parent:  # it ended before this was asked for
        os.kill(os.getpid(), signal.SIGUSR1)


if __name__ == "__main__":
    end_with_parent()
    runpy.run_module("drfpn", run_name="__main__", alter_sys=True)
