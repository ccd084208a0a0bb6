"""Peak memory of a detector in training and inference, measured in a separate process."""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from drfpn.detectors.base import DetectionModel
from drfpn.training.trial_step import random_target


class PeakMemory(BaseModel):
    """Peak memory of a detector in MiB, without its weights, their gradients and the loaded libraries."""

    training: float
    """Forward and backward pass of a batch."""
    inference: float
    """Detection in a batch of images."""


def peak_memory(build: Any, size: tuple[int, int], batch_size: int, device: torch.device) -> PeakMemory | None:
    """Measure the peak memory of a detector in new processes, since a process keeps memory that was freed.

    Args:
        build: function without arguments that returns the detector; it is pickled.
        size: height and width of an image.
        batch_size: images of a batch.
        device: device to run on; on a CPU the memory of the process is measured, on Linux only.

    Returns:
        ``None`` where the system does not report it.
    """
    if device.type != "cuda" and not Path("/proc/self/clear_refs").exists():
        return None
    peaks = {}
    for phase, run in (("inference", _infer), ("training", _train)):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            arguments = (build, run, size, batch_size, str(device), torch.get_num_threads())
            peaks[phase] = pool.submit(_measure, *arguments).result()
    return PeakMemory(**peaks)


def _measure(build: Any, run: Any, size: tuple[int, int], batch_size: int, device: str, threads: int) -> float:
    torch.set_num_threads(threads)
    model = build().to(device, memory_format=torch.channels_last)
    _train(model, (64, 64), 1)  # allocates the gradients
    run(model, (64, 64), 1)  # loads libraries that are loaded on first use
    before = reset_peak(device)
    run(model, size, batch_size)
    return (peak_bytes(device) - before) / 2**20


def _images(model: DetectionModel, size: tuple[int, int], batch_size: int) -> list[torch.Tensor]:
    device = next(model.parameters()).device
    return [torch.rand(3, *size, device=device) for _ in range(batch_size)]


def _infer(model: DetectionModel, size: tuple[int, int], batch_size: int) -> None:
    with torch.inference_mode():
        model.eval().detect(_images(model, size, batch_size))


def _train(model: DetectionModel, size: tuple[int, int], batch_size: int) -> None:
    device = next(model.parameters()).device
    targets = [random_target(*size, 8, device) for _ in range(batch_size)]
    torch.stack(list(model.train()(_images(model, size, batch_size), targets).values())).sum().backward()
    model.zero_grad(set_to_none=False)


def reset_peak(device: str) -> float:
    """Reset the peak and return the bytes in use now.

    Args:
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...
    """
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak_bytes(device: str) -> float:
    """Return the peak of the bytes in use since :func:`reset_peak`.

    Args:
        device: as for :func:`reset_peak`.
    """
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])
