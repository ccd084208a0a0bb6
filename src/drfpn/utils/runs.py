"""Run folders: their weights, and their names in tables and figures."""

from collections.abc import Sequence
from pathlib import Path

from drfpn.utils.errors import UsageError, UserError

WEIGHTS = ("best.safetensors", "last.safetensors")
"""Files of weights in a run folder, in order of preference."""


def find_weights(run_or_file: Path) -> Path:
    """Return the file of weights of a run: the best, or else the last.

    Args:
        run_or_file: a run folder, or a file, which is returned as it is.

    Raises:
        UserError: there is no such file, or no weights in the folder.
    """
    if run_or_file.is_file():
        return run_or_file
    for name in WEIGHTS:
        if (run_or_file / name).is_file():
            return run_or_file / name
    if run_or_file.is_dir():
        raise UserError(f"{run_or_file} is not a run: it holds neither best.safetensors nor last.safetensors.")
    raise UserError(f"There is no run or weights file {run_or_file}.")


def name_runs(runs: Sequence[Path]) -> list[str]:
    """Return a unique name for each run: that of its folder, with the parent folder if two are equal.

    Args:
        runs: run folders or files of weights.

    Raises:
        UsageError: two runs are the same.
    """
    paths = [_folder(run.resolve()) for run in runs]
    names = [path.name.removesuffix(".safetensors") for path in paths]
    if len(set(names)) < len(names):
        names = [f"{path.parent.name}/{name}" for path, name in zip(paths, names, strict=True)]
    if len(set(names)) < len(names):
        raise UsageError(f"Two of the runs are called '{max(names, key=names.count)}': give each once.")
    return names


def _folder(path: Path) -> Path:
    return path.parent if path.name in WEIGHTS else path
