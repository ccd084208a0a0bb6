"""Commands of this library as tasks of a Ray cluster, which start again elsewhere if their node is lost."""

import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from drfpn.utils.errors import UserError
from drfpn.utils.packages import import_optional

logger = logging.getLogger(__name__)

_POLL = 0.2
"""Seconds between polls of a child."""
_LOST = ("WorkerCrashedError", "NodeDiedError", "LocalRayletDiedError", "NodePreemptedError")
"""Ray's errors of a task whose process or node has ended."""


def import_ray() -> ModuleType:
    """Import Ray.

    Raises:
        UserError: it is not installed.
    """
    return import_optional("ray", "ray", feature="A Ray cluster")


@contextmanager
def connect() -> Iterator[None]:
    """Connect to the cluster of ``RAY_ADDRESS`` or to that of this machine; without one, use this machine alone.

    Raises:
        UserError: Ray is not installed, or its cluster does not answer.
    """
    ray = import_ray()
    if ray.is_initialized():
        yield
        return
    try:
        ray.init(logging_level=logging.WARNING, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        where = os.environ.get("RAY_ADDRESS", "of this machine")
        raise UserError(f"The Ray cluster {where} cannot be used: {str(error).splitlines()[0]}") from error
    try:
        yield
    finally:
        ray.shutdown()


def cluster_size(kind: str) -> int:
    """Return the number of GPUs or CPUs of the cluster.

    Args:
        kind: ``"GPU"`` or ``"CPU"``.
    """
    return int(import_ray().cluster_resources().get(kind, 0))


def gpus_for(device: str) -> int:
    """Return the number of GPUs that a task needs.

    Args:
        device: ``"auto"`` for a GPU where the cluster has any, ``"cpu"`` for none, else the name of a GPU.
    """
    return int(device != "cpu" and (device != "auto" or cluster_size("GPU") > 0))


class RayJob:
    """A function as a task of Ray with one CPU, which is started again for as long as its node is lost.

    Args:
        function: a function of a module, which returns an exit code or an error message.
        arguments: its arguments.
        name: name of the task, for Ray's dashboard and for messages.
        gpus: GPUs that it needs.
    """

    def __init__(self, function: Callable[..., int | str], arguments: Sequence[Any], *, name: str, gpus: int) -> None:
        self._ray = import_ray()
        self._name = name
        self._arguments = arguments
        # Ray's own retries are silent
        self._task = self._ray.remote(function).options(num_cpus=1, num_gpus=gpus, max_retries=0, name=name)
        self._task_ref = self._task.remote(*arguments)
        self._stopped = False
        self.error = ""
        """Why the task failed, if that is not in the log of its command."""

    def poll(self) -> int | None:
        """Return the exit code, ``None`` while the task waits or runs."""
        try:
            ready, _ = self._ray.wait([self._task_ref], timeout=0)
            if not ready:
                return None
            result = self._ray.get(self._task_ref)
        except self._ray.exceptions.RayError as error:
            if type(error).__name__ in _LOST and not self._stopped:
                logger.warning("[%s] its node or process was lost; it goes on elsewhere", self._name)
                self._task_ref = self._task.remote(*self._arguments)
                return None
            result = f"Ray's task failed: {str(error).strip().splitlines()[-1]}"
        if isinstance(result, str):
            self.error, result = result, 1
        return int(result)

    def stop(self) -> None:
        """Cancel the task, which stops its command as by SIGTERM; does not wait for it."""
        self._stopped = True
        self._ray.cancel(self._task_ref)

    def wait(self) -> None:
        """Wait until the task has ended."""
        self._ray.wait([self._task_ref])


def run_command(arguments: Sequence[str], log: Path, folder: Path) -> int | str:
    """Run a command of this library in a child of this process, the worker of a task; a cancelled task stops it.

    Args:
        arguments: arguments of ``drfpn``.
        log: file that stdout and stderr are appended to.
        folder: working directory.

    Returns:
        The exit code, or the error message if this node lacks one of the folders.
    """
    for needed in (folder, log.parent):
        if not needed.is_dir():
            return missing_message(needed)
    with log.open("ab") as stream:
        command = [sys.executable, "-m", "drfpn.utils.child", *arguments]
        child = subprocess.Popen(command, stdout=stream, stderr=stream, cwd=folder, start_new_session=True)
    try:
        while (exit_code := child.poll()) is None:
            time.sleep(_POLL)  # not Popen.wait, which Ray's KeyboardInterrupt of a cancelled task does not end
    except BaseException:
        child.terminate()
        while child.poll() is None:
            with suppress(KeyboardInterrupt):  # the state is being saved
                time.sleep(_POLL)
        raise
    return exit_code


def missing_message(path: Path) -> str:
    """Return the message about a file or folder that this node does not have.

    Args:
        path: the file or folder.
    """
    return f"{path} is missing on the node {socket.gethostname()}: all nodes must share the disk that it is on."
