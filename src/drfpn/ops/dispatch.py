"""Which implementation of an operator runs: by device, in deterministic mode, in a traced graph, under hooks.

Operators ask these functions as ``dispatch.use_cpu_kernels(...)``, so that a test can replace one in a single place.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any

import torch

_CALL_EVERY_LAYER = ContextVar("call_every_layer", default=False)
_AVOID_GRID_SAMPLE = ContextVar("avoid_grid_sample", default=False)


def call_every_layer() -> AbstractContextManager[None]:
    """Return a context in which blocks call each of their layers instead of fusing some, so that hooks on them run."""
    return _enabled(_CALL_EVERY_LAYER)


def avoid_grid_sample() -> AbstractContextManager[None]:
    """Return a context in which maps are sampled by ``gather``, for runtimes without a correct ``grid_sample``."""
    return _enabled(_AVOID_GRID_SAMPLE)


@contextmanager
def _enabled(switch: ContextVar[bool]) -> Iterator[None]:
    token = switch.set(True)
    try:
        yield
    finally:
        switch.reset(token)


def use_gather(device: torch.device) -> bool:
    """Return whether maps are sampled by ``gather``.

    That is on MPS, where ``grid_sample`` has no backward pass, and under ``avoid_grid_sample``.
    """
    return device.type == "mps" or _AVOID_GRID_SAMPLE.get()


def use_cpu_kernels(device: torch.device) -> bool:
    """Return whether the implementations of ``drfpn.ops.cpu`` are used: on a CPU, but not in a traced graph."""
    return device.type == "cpu" and not torch.compiler.is_compiling()


def must_be_deterministic(device: torch.device) -> bool:
    """Return whether results must be bitwise reproducible where the usual operators are not.

    That is on CUDA under ``torch.use_deterministic_algorithms``, outside of traced graphs.
    """
    return device.type == "cuda" and torch.are_deterministic_algorithms_enabled() and not torch.compiler.is_compiling()


def use_embedding_bag(device: torch.device) -> bool:
    """Return whether weighted sums of pixels are computed by ``F.embedding_bag``.

    On a CPU it is faster than the usual operators; on CUDA its backward pass is deterministic.
    """
    return use_cpu_kernels(device) or must_be_deterministic(device)


def may_fuse_layers(device: torch.device) -> bool:
    """Return whether a block may compose linear layers into one, which is faster on a CPU, without calling them."""
    return use_cpu_kernels(device) and not _CALL_EVERY_LAYER.get()


def unbacked_size(size: int | torch.SymInt, max_size: int) -> int:
    """Replace a symbolic size of a traced graph by a new unbacked symbol; outside of tracing, return it as an int.

    Otherwise ``torch.export`` evaluates the size's whole expression again for each layer, and specializes the graph on
    whether it is 1.

    Args:
        size: at least 1.
        max_size: largest value of ``size``.
    """
    if not torch.compiler.is_compiling():
        return int(size)
    unbacked: Any = torch.scalar_tensor(size, dtype=torch.int64).item()  # int() would make it a constant
    torch._check(unbacked >= 1)
    torch._check(unbacked <= max_size)
    return unbacked
