"""Run folders: their weights, and what runs are called in tables and pictures."""

from collections.abc import Sequence
from pathlib import Path

from drfpn.utils.errors import UserError

WEIGHTS = ("best.safetensors", "last.safetensors")
"""What a run folder holds, first the better one."""


def find_weights(run_or_file: Path) -> Path:
    """Return the weights of a run folder (the best, else the last) or the file itself."""
    if run_or_file.is_file():
        return run_or_file
    for name in WEIGHTS:
        if (run_or_file / name).is_file():
            return run_or_file / name
    if run_or_file.is_dir():
        raise UserError(f"{run_or_file} is not a run: it holds neither best.safetensors nor last.safetensors.")
    raise UserError(f"There is no run or weights file {run_or_file}.")


def name_runs(runs: Sequence[Path]) -> list[str]:
    """Return a name for each run folder or weights file: its own, with the folder above where two are alike.

    Raises:
        UserError: two are the same.
    """
    paths = [_folder(run.resolve()) for run in runs]
    names = [path.name.removesuffix(".safetensors") for path in paths]
    if len(set(names)) < len(names):
        names = [f"{path.parent.name}/{name}" for path, name in zip(paths, names, strict=True)]
    if len(set(names)) < len(names):
        raise UserError(f"Two of the runs are called '{max(names, key=names.count)}': give each once.", exit_code=2)
    return names


def _folder(path: Path) -> Path:
    return path.parent if path.name in WEIGHTS else path
