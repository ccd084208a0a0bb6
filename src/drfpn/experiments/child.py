"""The command line in a process that ends with the one that started it: ``python -m drfpn.experiments.child ...``."""

import ctypes
import os
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Have Linux send SIGTERM, which saves the state of a run, when the parent is gone, however it ended."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended before this was asked for
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    end_with_parent()
    runpy.run_module("drfpn", run_name="__main__", alter_sys=True)
