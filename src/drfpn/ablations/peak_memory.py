"""What a detector needs of memory at its peak, measured in a process of its own."""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from drfpn.training.trial_step import random_target


class Memory(BaseModel):
    """MiB that a detector needs at its peak, more than its weights, their gradients and all that is loaded before."""

    training: float
    """Forward and backward of a batch."""
    inference: float
    """Images to boxes, of a batch."""


def peak_memory(build: Any, size: tuple[int, int], batch: int, device: torch.device) -> Memory | None:
    """Measure a detector in fresh processes, since a process keeps much of what was freed.

    Args:
        build: makes the detector; it is sent to the process.
        size: height and width of an image.
        batch: images at once.
        device: where; on a CPU this is the memory of the process, which only Linux tells.

    Returns:
        ``None`` where the system does not tell.
    """
    if device.type != "cuda" and not Path("/proc/self/clear_refs").exists():
        return None
    peaks = {}
    for name, work in (("inference", _infer), ("training", _train)):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            peaks[name] = pool.submit(_measure, build, work, size, batch, str(device), torch.get_num_threads()).result()
    return Memory(**peaks)


def _measure(build: Any, work: Any, size: tuple[int, int], batch: int, device: str, threads: int) -> float:
    torch.set_num_threads(threads)
    model = build().to(device, memory_format=torch.channels_last)
    _train(model, (64, 64), 1)  # makes the gradients
    work(model, (64, 64), 1)  # loads what is loaded at the first use
    before = begin(device)
    work(model, size, batch)
    return (peak(device) - before) / 2**20


def _images(model: Any, size: tuple[int, int], batch: int) -> list[torch.Tensor]:
    device = next(model.parameters()).device
    return [torch.rand(3, *size, device=device) for _ in range(batch)]


def _infer(model: Any, size: tuple[int, int], batch: int) -> None:
    with torch.inference_mode():
        model.eval().detect(_images(model, size, batch))


def _train(model: Any, size: tuple[int, int], batch: int) -> None:
    device = next(model.parameters()).device
    targets = [random_target(*size, 8, device) for _ in range(batch)]
    torch.stack(list(model.train()(_images(model, size, batch), targets).values())).sum().backward()
    model.zero_grad(set_to_none=False)


def begin(device: str) -> float:
    """Forget the peak so far; returns the bytes in use now."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak(device: str) -> float:
    """Return the most bytes that were in use since :func:`begin`."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])
