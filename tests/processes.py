"""Processes that start in milliseconds: forks of a server that has imported the package once for each test process."""

import importlib
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest
import torch

forkserver = multiprocessing.get_context("forkserver")
forkserver.set_forkserver_preload(
    ["drfpn.training", "drfpn.ablations", "drfpn.visualization.report", __name__, "tests.freeze"]
)


def wait_until(condition: Callable[[], bool], process: Any) -> None:
    """Wait for something that a process does, however slow the machine; fail where the process ends before."""
    while not condition():
        ended = not process.is_alive()
        assert condition() or not ended, f"the process ended with {process.exitcode}"
        time.sleep(0.005)


def count_lines(file: Path) -> int:
    """Return the number of whole lines of a file that another process writes, 0 where it does not exist."""
    return file.read_bytes().count(b"\n") if file.exists() else 0


def prepare_fork() -> None:
    """Let this fork use one thread and fork the workers of its data loaders: a server of its own would import again."""
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)


def _run_module(module: str, arguments: Sequence[str], environment: Mapping[str, str], streams: Mapping[int, str],
                folder: str, forked: Sequence[str]) -> None:  # fmt: skip
    """Run ``python -m MODULE ARGUMENTS`` in this process.

    Args:
        module: name of the module.
        arguments: command line.
        environment: all variables.
        streams: file for each file descriptor, to which its output is appended.
        folder: working directory.
        forked: modules that start processes, which become forks of this one.
    """
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    prepare_fork()
    for number, file in streams.items():
        with open(file, "ab") as stream:
            os.dup2(stream.fileno(), number)
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))  # noqa: SIM115
    sys.argv = [module, *arguments]
    for name in forked:
        popen = SimpleNamespace(Popen=start_forks(multiprocessing.get_context("fork")), DEVNULL=subprocess.DEVNULL)
        importlib.import_module(name).subprocess = popen  # type: ignore[attr-defined]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


class Fork:
    """``python -m MODULE ARGUMENTS`` as a fork, with what the package uses of :class:`subprocess.Popen`.

    Args:
        context: how it is started: by the server, or as a fork of this process, if it never ran a backward pass.
        module: name of the module.
        arguments: command line.
        environment: all variables; by default, those of this process.
        streams: file for each file descriptor, to which its output is appended.
        folder: working directory; by default, that of this process.
        forked: modules that start processes, which become forks of the new one.
    """

    def __init__(
        self,
        context: Any,
        module: str,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        streams: Mapping[int, str] | None = None,
        folder: Path | None = None,
        forked: Sequence[str] = (),
    ) -> None:
        variables = dict(os.environ if environment is None else environment)
        options = (module, list(arguments), variables, dict(streams or {}), str(folder or Path.cwd()), list(forked))
        self.process = context.Process(target=_run_module, args=options)
        self.process.start()
        self.pid = self.process.pid

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self) -> int:
        self.process.join()
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    @property
    def returncode(self) -> int | None:
        return self.poll()


def start_forks(context: Any) -> Callable[..., Fork]:
    """Return a function that takes the place of ``subprocess.Popen`` for ``python -m MODULE ARGUMENTS``."""

    def popen(
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        stdout: IO[Any] | int | None = None,
        stderr: IO[Any] | None = None,
        start_new_session: bool = False,
    ) -> Fork:
        del start_new_session  # no terminal sends signals to the processes of a test
        assert command[:2] == [sys.executable, "-m"]
        streams = {1: os.devnull if stdout == subprocess.DEVNULL else getattr(stdout, "name", None)}
        streams[2] = getattr(stderr, "name", None)
        given = {number: str(name) for number, name in streams.items() if name is not None}
        return Fork(context, command[2], command[3:], environment=env, streams=given)

    return popen


def fork_children(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    """Let modules of the package start forks of the server in place of new interpreters."""
    for name in modules:
        popen = SimpleNamespace(Popen=start_forks(forkserver), DEVNULL=subprocess.DEVNULL)
        monkeypatch.setattr(importlib.import_module(name), "subprocess", popen)


class Command(Fork):
    """``drfpn ARGUMENTS`` in a process of its own.

    Args:
        arguments: arguments of the command line.
        folder: working directory.
        forked: modules that start processes, which become forks of this one.
    """

    def __init__(self, *arguments: str, folder: Path, forked: Sequence[str] = ()) -> None:
        number = 1 + len(list(folder.glob("command-*.out")))
        self.files = [folder / f"command-{number}.{ending}" for ending in ("out", "err")]
        streams = {1 + i: str(file) for i, file in enumerate(self.files)}
        for file in self.files:
            file.touch()
        super().__init__(forkserver, "drfpn", arguments, streams=streams, folder=folder, forked=forked)

    def is_alive(self) -> bool:
        return self.poll() is None

    @property
    def exitcode(self) -> str:
        """Exit code and stderr, for a message."""
        return f"{self.poll()}: {self.files[1].read_text()}"

    def communicate(self) -> tuple[str, str]:
        """Wait for the end and return stdout and stderr."""
        self.wait()
        return self.files[0].read_text(), self.files[1].read_text()
