"""What a run holds to from its first to its last step."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from drfpn.utils import distributed
from drfpn.utils.errors import UserError


@contextmanager
def alone_in(out: Path, patience: float = 10.0) -> Iterator[None]:
    """Keep other runs out of a folder. A run that was just killed may hold it until its workers notice, some seconds.

    Raises:
        UserError: another process trains into it.
    """
    if distributed.rank() > 0:
        yield
        return
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / ".lock")
    try:
        lock.acquire(timeout=patience)
    except Timeout as error:
        raise UserError(f"Another process trains into {out}: choose another --out, or wait for its end.") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Let torch use only operators that give the same bits each time."""
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what CUDA's matrix product then asks for
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
