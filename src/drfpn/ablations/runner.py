"""Training of several runs in parallel processes, which can be interrupted and resumed."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from drfpn.ablations.plan import PlannedRun
from drfpn.ablations.training_job import TrainingJob, training_arguments
from drfpn.training.interrupt import InterruptHandler
from drfpn.utils.errors import Interrupted

logger = logging.getLogger(__name__)

_POLL = 0.2
"""Seconds between polls of the processes."""


class TrainingProcess(TrainingJob):
    """A ``drfpn train`` process on this machine.

    Args:
        planned: run to train.
        folder: run folder.
        device: device to train on.
        threads: CPU threads of the process; ``None`` for PyTorch's default.
    """

    def __init__(self, planned: PlannedRun, folder: Path, device: str, threads: int | None) -> None:
        super().__init__(planned, folder)
        command = [sys.executable, "-m", "drfpn.utils.child", *training_arguments(folder, device)]
        environment = dict(os.environ)
        if threads is not None:
            environment["OMP_NUM_THREADS"] = str(threads)
        with self.log.open("ab") as log:
            # in a new session, since the terminal sends Ctrl-C to the whole process group; it is forwarded by ``_stop``
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)

    def poll(self) -> int | None:
        """Return the exit code, ``None`` while the training goes on."""
        return self._process.poll()

    def stop(self) -> None:
        """Send SIGTERM."""
        self._process.send_signal(signal.SIGTERM)

    def wait(self) -> None:
        """Wait for the end of the process."""
        self._process.wait()


def train_runs(
    runs: Sequence[PlannedRun],
    out: Path,
    on_finished: Callable[[PlannedRun, Path], None],
    *,
    devices: Sequence[str],
    threads: int | None = None,
    start: Callable[[PlannedRun, Path, str, int | None], TrainingJob] = TrainingProcess,
) -> dict[str, str]:
    """Train runs in parallel, one on each device at a time.

    Args:
        runs: runs to train, in this order.
        out: parent of the run folders; runs with a saved state are resumed.
        on_finished: called with each finished run and its folder.
        devices: devices to train on; a device that is listed several times takes as many runs at a time.
        threads: CPU threads of each run; ``None`` for PyTorch's default.
        start: starts the training of a run in a folder, on a device, with some threads.

    Returns:
        The error message of each run that failed, by name; the other runs are trained nevertheless.

    Raises:
        Interrupted: SIGTERM or Ctrl-C, after all runs have saved their state.
    """
    waiting, running, failed = list(runs), dict[tuple[int, str], TrainingJob](), dict[str, str]()
    free_slots = list(enumerate(devices))
    began, done = time.monotonic(), 0
    with InterruptHandler() as interrupt:
        try:
            while waiting or running:
                while free_slots and waiting:
                    slot, planned = free_slots.pop(0), waiting.pop(0)
                    folder = out / planned.name
                    resuming = ", resuming" if (folder / "state.pt").exists() else ""
                    logger.info("[%s] %s%s", planned.name, planned.config.model, resuming)
                    running[slot] = start(planned, folder, slot[1], threads)
                time.sleep(_POLL)
                if interrupt.signal_number:
                    raise Interrupted(interrupt.signal_number)
                for slot, job in list(running.items()):
                    exit_code = job.poll()
                    for line in job.new_epoch_lines():
                        logger.info("[%s] %s", job.planned.name, line)
                    if exit_code is None:
                        continue
                    del running[slot]
                    free_slots.append(slot)
                    done += 1
                    if exit_code:
                        failed[job.planned.name] = job.last_line()
                        logger.warning("[%s] failed: %s", job.planned.name, failed[job.planned.name])
                    else:
                        on_finished(job.planned, job.folder)
                    left = (time.monotonic() - began) / done * (len(runs) - done)
                    logger.info("%d of %d runs done, about %s left", done, len(runs), _duration(left))
        finally:
            _stop(list(running.values()))
    return failed


def _stop(jobs: Sequence[TrainingJob]) -> None:
    """Stop the runs, which save their state, and wait for them."""
    for job in jobs:
        if job.poll() is None:
            job.stop()
    for job in jobs:
        job.wait()


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
