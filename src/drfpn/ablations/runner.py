"""Training of several runs in parallel processes, which can be interrupted and resumed."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from drfpn.ablations.plan import PlannedRun
from drfpn.training.interrupt import InterruptHandler
from drfpn.utils.errors import Interrupted
from drfpn.utils.io import write_atomically

logger = logging.getLogger(__name__)

_POLL = 0.2
"""Seconds between polls of the processes."""


class TrainingProcess:
    """A ``drfpn train`` process.

    Args:
        planned: run to train.
        folder: run folder; stdout and stderr are appended to ``FOLDER.log`` beside it.
        device: device to train on.
        threads: CPU threads of the process; ``None`` for PyTorch's default.
    """

    def __init__(self, planned: PlannedRun, folder: Path, device: str, threads: int | None) -> None:
        self.planned, self.folder = planned, folder
        self.log = folder.with_name(folder.name + ".log")
        folder.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "drfpn.ablations.child", "train", "--device", device, "--out", str(folder)]
        if (folder / "state.pt").exists():
            command.append("--resume")
        else:
            if folder.exists():  # interrupted before the first saved state
                shutil.rmtree(folder)
            settings = folder.with_name(folder.name + ".yaml")
            write_atomically(settings, planned.config.to_yaml().encode())
            command += ["--config", str(settings)]
        environment = dict(os.environ)
        if threads is not None:
            environment["OMP_NUM_THREADS"] = str(threads)
        self._read = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            # in a new session, since the terminal sends Ctrl-C to the whole process group; it is forwarded by ``_stop``
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)

    def new_epoch_lines(self) -> list[str]:
        """Return the lines about epochs that were logged since the last call."""
        text = self.log.read_bytes()[self._read :]
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        lines = whole.decode(errors="replace").splitlines()
        return [line for line in lines if line.startswith("epoch ") and ": loss" in line]

    def last_line(self) -> str:
        """Return the last line of the log, which is the error message if the process failed."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return lines[-1].removeprefix("drfpn: ") if lines else "it printed nothing"


def train_runs(
    runs: Sequence[PlannedRun],
    out: Path,
    on_finished: Callable[[PlannedRun, Path], None],
    *,
    devices: Sequence[str],
    threads: int | None = None,
) -> dict[str, str]:
    """Train runs in parallel, one on each device at a time.

    Args:
        runs: runs to train, in this order.
        out: parent of the run folders; runs with a saved state are resumed.
        on_finished: called with each finished run and its folder.
        devices: devices to train on; a device that is listed several times takes as many runs at a time.
        threads: CPU threads of each run; ``None`` for PyTorch's default.

    Returns:
        The error message of each run that failed, by name; the other runs are trained nevertheless.

    Raises:
        Interrupted: SIGTERM or Ctrl-C, after all runs have saved their state.
    """
    waiting, running, failed = list(runs), dict[tuple[int, str], TrainingProcess](), dict[str, str]()
    free_slots = list(enumerate(devices))
    start, done = time.monotonic(), 0
    with InterruptHandler() as interrupt:
        try:
            while waiting or running:
                while free_slots and waiting:
                    slot, planned = free_slots.pop(0), waiting.pop(0)
                    folder = out / planned.name
                    resuming = ", resuming" if (folder / "state.pt").exists() else ""
                    logger.info("[%s] %s%s", planned.name, planned.config.model, resuming)
                    running[slot] = TrainingProcess(planned, folder, slot[1], threads)
                time.sleep(_POLL)
                if interrupt.signal_number:
                    raise Interrupted(interrupt.signal_number)
                for slot, child in list(running.items()):
                    exit_code = child.process.poll()
                    for line in child.new_epoch_lines():
                        logger.info("[%s] %s", child.planned.name, line)
                    if exit_code is None:
                        continue
                    del running[slot]
                    free_slots.append(slot)
                    done += 1
                    if exit_code:
                        failed[child.planned.name] = child.last_line()
                        logger.warning("[%s] failed: %s", child.planned.name, failed[child.planned.name])
                    else:
                        on_finished(child.planned, child.folder)
                    left = (time.monotonic() - start) / done * (len(runs) - done)
                    logger.info("%d of %d runs done, about %s left", done, len(runs), _duration(left))
        finally:
            _stop([child.process for child in running.values()])
    return failed


def _stop(processes: Sequence["subprocess.Popen[Any]"]) -> None:
    """Stop the processes, which save their state, and wait for them."""
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    for process in processes:
        process.wait()


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds > 5400 else f"{seconds / 60:.0f} min"


def assign_devices(device: str, jobs: int | None) -> tuple[list[str], int | None]:
    """Return the device of each parallel run, and the number of CPU threads of each.

    Args:
        device: name of a device; ``"auto"`` for all GPUs, or the CPU where there is none.
        jobs: number of parallel runs; ``None`` for one on each device.

    Returns:
        The devices, and the threads, ``None`` for PyTorch's default.
    """
    if device == "auto":
        devices = [f"cuda:{i}" for i in range(torch.cuda.device_count())] or ["cpu"]
    else:
        devices = [device]
    devices = [devices[i % len(devices)] for i in range(jobs or len(devices))]
    threads = max(1, (os.cpu_count() or 1) // len(devices)) if jobs is not None and jobs > 1 else None
    return devices, None if "OMP_NUM_THREADS" in os.environ else threads
