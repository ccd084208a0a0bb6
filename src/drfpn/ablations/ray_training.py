"""Training of a run as a task of a Ray cluster."""

from pathlib import Path

from drfpn.ablations.plan import PlannedRun
from drfpn.ablations.training_job import TrainingJob, log_file, settings_file, training_arguments
from drfpn.training.locks import lock_folder
from drfpn.utils.errors import UserError
from drfpn.utils.ray_jobs import RayJob, gpus_for, missing_message, run_command

_LOCK_TIMEOUT = 120.0
"""Seconds to wait for the process of a lost node, which may still save its state."""


class RayTraining(TrainingJob):
    """A ``drfpn train`` process on any node of a Ray cluster. If the node is lost, another one resumes the run.

    Args:
        planned: run to train.
        folder: run folder, on a disk that all nodes share.
        device: ``"auto"`` for a GPU where the cluster has any, or ``"cpu"``.
        threads: not used: Ray gives a task the threads of its CPUs.
    """

    def __init__(self, planned: PlannedRun, folder: Path, device: str, threads: int | None = None) -> None:
        super().__init__(planned, folder.absolute())
        arguments = (self.folder, device, Path.cwd())
        self._job = RayJob(train_on_node, arguments, name=planned.name, gpus=gpus_for(device))

    def poll(self) -> int | None:
        """Return the exit code, ``None`` while the task waits or runs."""
        return self._job.poll()

    def stop(self) -> None:
        """Cancel the task."""
        self._job.stop()

    def wait(self) -> None:
        """Wait for the end of the task."""
        self._job.wait()

    def last_line(self) -> str:
        """Return why the task failed, or else the last line of the log."""
        return self._job.error or super().last_line()


def train_on_node(folder: Path, device: str, working_directory: Path) -> int | str:
    """Train a run in a child of this process, or resume it.

    Args:
        folder: run folder; its settings are beside it.
        device: device to train on.
        working_directory: where relative paths of the settings begin.

    Returns:
        The exit code, or the error message if the training could not be started.
    """
    if not settings_file(folder).is_file():
        return missing_message(settings_file(folder))
    try:
        with lock_folder(folder, timeout=_LOCK_TIMEOUT):
            pass
    except UserError as error:
        return str(error)
    return run_command(training_arguments(folder, device), log_file(folder), working_directory)
