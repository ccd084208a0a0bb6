"""Starting several processes of one command on this machine, as ``torchrun`` does, and ending them together."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from drfpn.utils.distributed import ALONE

_GRACE = 5.0
"""Seconds that the others have to end by themselves when one has failed."""


def launch(arguments: Sequence[str], count: int) -> int:
    """Run ``drfpn ARGUMENTS`` in ``count`` processes that find each other; returns the exit code.

    The first writes to this terminal. What the others write on stderr is shown only if one of them is the first to
    fail. A signal is passed on, and where one process fails, the others are ended.

    Args:
        arguments: of the command line.
        count: processes.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    common |= {"LOCAL_WORLD_SIZE": str(count)} | _threads(count)
    with tempfile.TemporaryDirectory() as folder:
        processes = []
        for rank in range(count):
            output: dict[str, Any] = {}
            if rank:
                output["stderr"] = open(os.path.join(folder, str(rank)), "w")  # noqa: SIM115  # the child keeps it
                output["stdout"] = subprocess.DEVNULL
            environment = {**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            command = [sys.executable, "-m", "drfpn", *arguments]
            processes.append(subprocess.Popen(command, env=environment, **output))
        _wait(processes)
        codes = [process.returncode for process in processes]
        code = min((code for code in codes if code), key=lambda code: code in (ALONE, -signal.SIGKILL), default=0)
        failed = codes.index(code)
        if code and failed:
            with open(os.path.join(folder, str(failed)), encoding="utf-8") as said:
                sys.stderr.write(said.read())
        if code < 0:
            sys.stderr.write(f"drfpn: process {failed} of {count} was killed by {signal.Signals(-code).name}\n")
    return code


def _threads(count: int) -> dict[str, str]:
    """Share the cores where the user does not: each process would else take all of them."""
    if "OMP_NUM_THREADS" in os.environ:
        return {}
    return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // count))}


def _wait(processes: Sequence["subprocess.Popen[Any]"]) -> None:
    """Wait for all, or for the first that fails and then end the others; passes signals on."""

    def pass_on(number: int, frame: object) -> None:
        if number == signal.SIGTERM:  # the terminal sends Ctrl-C to all by itself
            for process in processes:
                process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        while True:
            codes = [process.poll() for process in processes]
            if any(codes) or all(code == 0 for code in codes):
                break
            time.sleep(0.1)
        deadline = time.monotonic() + _GRACE
        while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
            time.sleep(0.1)
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
