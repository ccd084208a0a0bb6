"""Lock of a run folder against other processes, and deterministic algorithms for the time of a run."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from drfpn.utils import distributed
from drfpn.utils.errors import UserError

LOCK = ".lock"
"""Name of the lock in a run folder."""


@contextmanager
def lock_folder(out: Path, timeout: float = 10.0) -> Iterator[None]:
    """Lock a run folder, so that no other process trains in it. Only rank 0 takes the lock.

    If nothing else is in the folder at the end, the lock is removed, with the folders that were created for it.

    Args:
        out: the run folder, created if missing.
        timeout: seconds to wait for the lock: the workers of a run that was killed hold it for a few seconds more.

    Raises:
        UserError: another process holds the lock.
    """
    if distributed.rank() > 0:
        yield
        return
    new = [folder for folder in (out, *out.parents) if not folder.exists()]
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / LOCK)
    try:
        lock.acquire(timeout=timeout)
    except Timeout as error:
        raise UserError(f"Another process is training in {out}: choose another `out`, or wait for its end.") from error
    try:
        yield
    finally:
        lock.release()
        with suppress(OSError):  # not empty: it or its parent has other files
            if {file.name for file in out.iterdir()} <= {LOCK}:
                (out / LOCK).unlink(missing_ok=True)
                for folder in new:
                    folder.rmdir()


@contextmanager
def deterministic_algorithms(enabled: bool) -> Iterator[None]:
    """Let PyTorch use deterministic algorithms only, and restore its settings at the end.

    Args:
        enabled: ``False`` leaves the settings as they are.
    """
    previous = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    if enabled:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # required by deterministic matrix products on CUDA
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(previous[0])
        torch.backends.cudnn.benchmark = previous[1]
