"""How a pass is to be made for those who look at it: sizes that a traced graph is told, layers that hooks see."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch

_ONE_BY_ONE = ContextVar("layers are called one by one", default=False)


@contextmanager
def layers_one_by_one() -> Iterator[None]:
    """Have blocks call each of their layers inside of this, where they else compose some: for hooks on these."""
    token = _ONE_BY_ONE.set(True)
    try:
        yield
    finally:
        _ONE_BY_ONE.reset(token)


def eager_on_cpu(device: torch.device) -> bool:
    """Say whether an operation may go the way that is quicker on a CPU; a traced graph keeps the plain one."""
    return device.type == "cpu" and not torch.compiler.is_compiling()


def must_repeat(device: torch.device) -> bool:
    """Say whether results must have the same bits each time where the library's usual operators differ: on CUDA."""
    return device.type == "cuda" and torch.are_deterministic_algorithms_enabled() and not torch.compiler.is_compiling()


def reads_rows(device: torch.device) -> bool:
    """Say whether weighted sums of pixels are read by an embedding bag.

    On a CPU that is quicker; on CUDA it is what gives the same bits each time.
    """
    return eager_on_cpu(device) or must_repeat(device)


def may_compose(device: torch.device) -> bool:
    """Say whether a block may compose its layers, which pays on a CPU."""
    return eager_on_cpu(device) and not _ONE_BY_ONE.get()


def opaque(size: int | torch.SymInt, most: int) -> int:
    """Hide from a traced graph how a size was computed; outside of tracing it stays as it is.

    Each layer would reason over the whole expression anew, and where it may be 1, bind the graph to whether it is.

    Args:
        size: at least 1.
        most: largest value that it can have.
    """
    if not torch.compiler.is_compiling():
        return int(size)
    hidden: Any = torch.scalar_tensor(size, dtype=torch.int64).item()  # int() would make it a number
    torch._check(hidden >= 1)
    torch._check(hidden <= most)
    return hidden
