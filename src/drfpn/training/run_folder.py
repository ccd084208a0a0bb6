"""Run folders of training: the name of a new one, the newest one, and whether a run can be resumed."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from drfpn.data.formats.yolo_yaml import is_yolo_yaml
from drfpn.training.config import RunConfig
from drfpn.training.locks import LOCK
from drfpn.training.resolve import read_config
from drfpn.utils import distributed
from drfpn.utils.errors import UserError
from drfpn.utils.runs import locate_run

RUNS = Path("runs")
"""Parent of the run folders that get a default name."""


def new_run_folder(config: RunConfig) -> Path:
    """Return ``runs/MODEL-DATA-NUMBER`` with the first number that is not in use.

    Args:
        config: settings of the new run.
    """
    number = 1
    while (folder := RUNS / f"{_default_name(config)}-{number}").exists():
        number += 1
    return folder


def newest_run_folder(config: RunConfig) -> Path:
    """Return the folder with a default name whose state was saved last.

    Args:
        config: settings, whose model and data are in the name.

    Raises:
        UserError: there is none.
    """
    name = re.compile(rf"{re.escape(_default_name(config))}-\d+")
    states = [file for file in RUNS.glob("*/state.pt") if name.fullmatch(file.parent.name)]
    newest = max(states, key=lambda file: file.stat().st_mtime, default=None)
    if newest is None:
        raise UserError("There is no run to resume in runs/: state.pt is missing.")
    return newest.parent


def check_empty(folder: Path) -> None:
    """Check that a new run can write to a folder.

    Args:
        folder: the run folder, which may be missing.

    Raises:
        UserError: it has contents, or is a file.
    """
    if folder.exists() and (not folder.is_dir() or _contents(folder)):
        raise UserError(f"{folder} exists and is not empty: choose another `out`, or resume its run by `resume=True`.")


@contextmanager
def removed_without_state(folder: Path) -> Iterator[None]:
    """Remove what was written to an empty folder, on exit without a saved state; the lock stays.

    Args:
        folder: a locked run folder.
    """
    new = distributed.rank() == 0 and not _contents(folder)
    try:
        yield
    finally:
        if new and not (folder / "state.pt").exists():
            for path in _contents(folder):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()


def _contents(folder: Path) -> list[Path]:
    """Return what is in a run folder beside the lock, which a killed process leaves."""
    return [path for path in folder.iterdir() if path.name != LOCK]


def saved_config(folder: Path) -> RunConfig:
    """Return the settings of a run that can be resumed.

    Args:
        folder: the run folder.

    Raises:
        UserError: it holds no state of a run.
    """
    if not (folder / "state.pt").is_file():
        raise UserError(f"There is no run to resume in {folder}: state.pt is missing.")
    return read_config(folder / "config.yaml")


def check_resumable(folder: Path, config: RunConfig) -> None:
    """Check that the run in a folder can be resumed with some settings.

    Args:
        folder: the run folder.
        config: settings to resume it with.

    Raises:
        UserError: it holds no state of a run, or the run has other settings.
    """
    saved = saved_config(folder)
    for key in saved.changed(config)[:1]:
        if config.weights not in (None, "torchvision") and not locate_run(str(config.weights)).exists():
            raise UserError(
                f"{config.weights} no longer exists, so the settings that depend on it are not known: give nothing but "
                f"`resume=True` and `out={folder}`."
            )
        raise UserError(
            f"{folder} was trained with {key}={getattr(saved, key)!r}, not {getattr(config, key)!r}: "
            "resume with the same settings, or start a new run."
        )


def _default_name(config: RunConfig) -> str:
    data = Path(config.data)
    if is_yolo_yaml(data):  # many are called data.yaml: use the name of the folder
        data = data.absolute().parent if data.stem == "data" else data.with_suffix("")
    return f"{config.model}-{data.name}"
