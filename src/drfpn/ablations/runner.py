"""Making many runs: each a ``drfpn train`` of its own, side by side, stopped and gone on with at any moment."""

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

from drfpn.ablations.plan import Planned
from drfpn.training.interrupt import Interrupted, Interruption
from drfpn.utils.console import say
from drfpn.utils.io import write_atomically

_POLL = 0.2
"""Seconds between looks at the runs."""


class Child:
    """A training process.

    Args:
        planned: what it trains.
        folder: its run folder; what it prints goes to a file of the same name with ``.log`` behind.
        device: to train on.
        threads: of the processor that it may take; ``None`` for what it likes.
    """

    def __init__(self, planned: Planned, folder: Path, device: str, threads: int | None) -> None:
        self.planned, self.folder = planned, folder
        self.log = folder.with_name(folder.name + ".log")
        folder.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "drfpn.ablations.child", "train", "--device", device, "--out", str(folder)]
        if (folder / "state.pt").exists():
            command.append("--resume")
        else:
            if folder.exists():  # stopped before there was anything to go on with
                shutil.rmtree(folder)
            settings = folder.with_name(folder.name + ".yaml")
            write_atomically(settings, planned.config.to_yaml().encode())
            command += ["--config", str(settings)]
        environment = dict(os.environ)
        if threads is not None:
            environment["OMP_NUM_THREADS"] = str(threads)
        self._shown = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            # in a session of its own: the terminal sends Ctrl-C to the whole group, and we pass it on
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)

    def news(self) -> list[str]:
        """Return the lines about epochs that were not returned yet."""
        text = self.log.read_bytes()[self._shown :]
        whole = text[: text.rfind(b"\n") + 1]
        self._shown += len(whole)
        lines = whole.decode(errors="replace").splitlines()
        return [line for line in lines if line.startswith("epoch ") and ": loss" in line]

    def last_words(self) -> str:
        """Return the last line that it printed: the sentence about what went wrong."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return lines[-1].removeprefix("drfpn: ") if lines else "it printed nothing"


def make_runs(
    runs: Sequence[Planned],
    out: Path,
    finished: Callable[[Planned, Path], None],
    *,
    devices: Sequence[str],
    threads: int | None = None,
) -> dict[str, str]:
    """Train all runs, as many side by side as there are devices.

    Args:
        runs: what to train, in this order.
        out: where the run folders are; one that is begun is gone on with.
        finished: called with a run and its folder when it is done.
        devices: one for each place; a name may stand there several times.
        threads: of the processor for each run; ``None`` for what torch takes.

    Returns:
        The name of each run that failed and what it said; the others were made all the same.

    Raises:
        Interrupted: SIGTERM or Ctrl-C, when all runs have saved their state.
    """
    waiting, running, failed = list(runs), dict[str, Child](), dict[str, str]()
    free = [f"{device}#{place}" for place, device in enumerate(devices)]
    began, done = time.monotonic(), 0
    with Interruption() as interruption:
        try:
            while waiting or running:
                while free and waiting:
                    place, planned = free.pop(0), waiting.pop(0)
                    folder = out / planned.name
                    going_on = ", going on" if (folder / "state.pt").exists() else ""
                    say(f"[{planned.name}] {planned.config.model}{going_on}")
                    running[place] = Child(planned, folder, place.partition("#")[0], threads)
                time.sleep(_POLL)
                if interruption.asked:
                    raise Interrupted(interruption.asked)
                for place, child in list(running.items()):
                    ended = child.process.poll()
                    for line in child.news():
                        say(f"[{child.planned.name}] {line}")
                    if ended is None:
                        continue
                    del running[place]
                    free.append(place)
                    done += 1
                    if ended:
                        failed[child.planned.name] = child.last_words()
                        say(f"[{child.planned.name}] failed: {failed[child.planned.name]}")
                    else:
                        finished(child.planned, child.folder)
                    left = (time.monotonic() - began) / done * (len(runs) - done)
                    say(f"{done} of {len(runs)} runs done, about {_duration(left)} left")
        finally:
            _stop([child.process for child in running.values()])
    return failed


def _stop(processes: Sequence["subprocess.Popen[Any]"]) -> None:
    """Ask all to save their state, and wait until they have."""
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    for process in processes:
        process.wait()


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds > 5400 else f"{seconds / 60:.0f} min"


def places(device: str, jobs: int | None) -> tuple[list[str], int | None]:
    """Return a device for each run side by side, and how many threads of the processor each takes.

    Args:
        device: ``"auto"`` takes every GPU there is, or the processor.
        jobs: runs side by side; ``None`` for one a device.
    """
    if device == "auto":
        devices = [f"cuda:{i}" for i in range(torch.cuda.device_count())] or ["cpu"]
    else:
        devices = [device]
    devices = [devices[i % len(devices)] for i in range(jobs or len(devices))]
    threads = max(1, (os.cpu_count() or 1) // len(devices)) if jobs is not None and jobs > 1 else None
    return devices, None if "OMP_NUM_THREADS" in os.environ else threads
