"""``TrainingJob``: a run that is trained in another process, here or elsewhere, and tells of it in a log."""

import shutil
from abc import ABC, abstractmethod
from pathlib import Path

from drfpn.ablations.plan import PlannedRun
from drfpn.utils.io import read_last_line, write_atomically


class TrainingJob(ABC):
    """A run in training. Its stdout and stderr are appended to ``FOLDER.log`` beside the run folder.

    Args:
        planned: run to train; its settings are written to ``FOLDER.yaml``.
        folder: run folder.
    """

    def __init__(self, planned: PlannedRun, folder: Path) -> None:
        self.planned, self.folder = planned, folder
        self.log = log_file(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(settings_file(folder), planned.config.to_yaml().encode())
        self._read = self.log.stat().st_size if self.log.exists() else 0

    @abstractmethod
    def poll(self) -> int | None:
        """Return the exit code of the training, ``None`` while it goes on."""

    @abstractmethod
    def stop(self) -> None:
        """Let the training save its state and end; does not wait for it."""

    @abstractmethod
    def wait(self) -> None:
        """Wait for the end of the training."""

    def new_epoch_lines(self) -> list[str]:
        """Return the lines about epochs that were logged since the last call."""
        if not self.log.exists():
            return []
        text = self.log.read_bytes()[self._read :]
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        lines = whole.decode(errors="replace").splitlines()
        return [line for line in lines if line.startswith("epoch ") and ": loss" in line]

    def last_line(self) -> str:
        """Return the last line of the log, which is the error message if the training failed."""
        return read_last_line(self.log)


def log_file(folder: Path) -> Path:
    """Return the log of a run.

    Args:
        folder: run folder.
    """
    return folder.with_name(folder.name + ".log")


def settings_file(folder: Path) -> Path:
    """Return the file with the settings of a planned run.

    Args:
        folder: run folder.
    """
    return folder.with_name(folder.name + ".yaml")


def training_arguments(folder: Path, device: str) -> list[str]:
    """Return the command line of ``drfpn`` that trains a run, or resumes it if it has a saved state.

    What a run has left that was interrupted before its first saved state is removed.

    Args:
        folder: run folder.
        device: device to train on.
    """
    arguments = ["train", "--device", device, "--out", str(folder)]
    if (folder / "state.pt").exists():
        return [*arguments, "--resume"]
    if folder.exists():
        shutil.rmtree(folder)
    return [*arguments, "--config", str(settings_file(folder))]
