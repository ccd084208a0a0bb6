"""Runs: where their weights are, on this machine or on the Hub, and their names in tables and figures."""

from collections.abc import Sequence
from pathlib import Path

from drfpn.utils.errors import UsageError, UserError
from drfpn.utils.hub import download_weights, is_hub_name, parse_hub_name

WEIGHTS = ("best.safetensors", "last.safetensors")
"""Files of weights in a run folder, in order of preference."""


def locate_run(run_or_file: str | Path) -> Path:
    """Return where a run is on this machine; the weights of one on the Hub are downloaded first.

    Args:
        run_or_file: a run folder or a file, which need not exist, or ``hf:user/name`` or ``hf:user/name@revision``.

    Returns:
        The folder or file, or the file of weights of a run on the Hub.

    Raises:
        UsageError: a name on the Hub that has another form.
        UserError: the run is not on the Hub, or cannot be downloaded.
    """
    path = Path(run_or_file)
    return download_weights(path.as_posix(), WEIGHTS) if is_hub_name(path) else path


def find_weights(run_or_file: str | Path) -> Path:
    """Return the file of weights of a run: the best, or else the last.

    Args:
        run_or_file: a run folder; a file, which is returned as it is; or the name of a run on the Hub, see
            :func:`locate_run`.

    Raises:
        UserError: there is no such file or no such run, or no weights in the folder.
    """
    run_or_file = locate_run(run_or_file)
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
        runs: run folders, files of weights, or names of runs on the Hub.

    Raises:
        UsageError: two runs are the same.
    """
    paths = [_folder(run) for run in runs]
    names = [path.name.removesuffix(".safetensors") for path in paths]
    if len(set(names)) < len(names):
        names = [f"{path.parent.name}/{name}" for path, name in zip(paths, names, strict=True)]
    if len(set(names)) < len(names):
        raise UsageError(f"Two of the runs are called '{max(names, key=names.count)}': give each once.")
    return names


def _folder(run: Path) -> Path:
    """Return the folder of a run; of one on the Hub, ``user/name``, with the revision if one is given."""
    if is_hub_name(run):
        repo, revision = parse_hub_name(run)
        return Path(repo if revision is None else f"{repo}@{revision.replace('/', '-')}")
    path = run.resolve()
    return path.parent if path.name in WEIGHTS else path
