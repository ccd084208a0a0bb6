"""Launching several processes of one command on this machine, as ``torchrun`` does."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from drfpn.utils.distributed import PEER_FAILURE_EXIT_CODE

_GRACE_PERIOD = 5.0
"""Seconds in which the other processes may end by themselves after one has failed."""


def launch(arguments: Sequence[str], count: int) -> int:
    """Run ``drfpn ARGUMENTS`` in ``count`` processes that form a process group.

    Rank 0 writes to this terminal. The stderr of another rank is shown only if it is the first to fail. Signals are
    forwarded, and when one process fails, the others are terminated.

    Args:
        arguments: arguments of the command line.
        count: number of processes.

    Returns:
        The exit code.
    """
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    common |= {"LOCAL_WORLD_SIZE": str(count)} | _threads(count)
    with tempfile.TemporaryDirectory() as folder:
        processes = []
        for rank in range(count):
            output: dict[str, Any] = {}
            if rank:
                output["stderr"] = open(os.path.join(folder, str(rank)), "w")  # noqa: SIM115  # used by the child
                output["stdout"] = subprocess.DEVNULL
            environment = {**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            command = [sys.executable, "-m", "drfpn", *arguments]
            processes.append(subprocess.Popen(command, env=environment, **output))
        _wait(processes)
        codes = [process.returncode for process in processes]
        consequences = (PEER_FAILURE_EXIT_CODE, -signal.SIGKILL)  # of the failure of another process
        code = min((code for code in codes if code), key=lambda code: code in consequences, default=0)
        failed = codes.index(code)
        if code and failed:
            with open(os.path.join(folder, str(failed)), encoding="utf-8") as stderr:
                sys.stderr.write(stderr.read())
        if code < 0:
            sys.stderr.write(f"drfpn: process {failed} of {count} was killed by {signal.Signals(-code).name}\n")
    return code


def _threads(count: int) -> dict[str, str]:
    """Return OMP_NUM_THREADS for each of ``count`` processes, unless the user has set it."""
    if "OMP_NUM_THREADS" in os.environ:
        return {}
    return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // count))}


def _wait(processes: Sequence["subprocess.Popen[Any]"]) -> None:
    """Wait for all processes, or until one fails and then terminate the others; signals are forwarded."""

    def forward(number: int, frame: object) -> None:
        if number == signal.SIGTERM:  # the terminal sends Ctrl-C to all processes itself
            for process in processes:
                process.send_signal(number)

    previous = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        while True:
            codes = [process.poll() for process in processes]
            if any(codes) or all(code == 0 for code in codes):
                break
            time.sleep(0.1)
        deadline = time.monotonic() + _GRACE_PERIOD
        while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
            time.sleep(0.1)
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
