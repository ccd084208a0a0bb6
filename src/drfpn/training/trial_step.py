"""A single training step of a model at full size, to measure its time and memory."""

import sys
import time

import torch
from pydantic import BaseModel
from torch import Tensor, nn
from torch.optim import SGD


class TrialStep(BaseModel):
    """Measurements of one training step."""

    loss: float
    seconds: float
    gradients: int
    """Number of trainable parameters with a finite gradient."""
    without: list[str]
    """Names of the trainable parameters without one."""
    peak_gib: float | None
    """Peak memory so far, of the GPU, or of the process on a CPU; ``None`` on Windows, which does not report it."""


def run_trial_step(model: nn.Module, height: int = 800, width: int = 1280, *, objects: int = 8) -> TrialStep:
    """Run a training step (forward, backward, update) on one image of noise with random boxes.

    Args:
        model: a detector of this library, on the device to use; left in training mode.
        height: height of the image, pixels.
        width: width of the image, pixels.
        objects: number of objects on the image.
    """
    device = next(model.parameters()).device
    image = torch.rand(3, height, width, device=device)
    target = random_target(height, width, objects, device)
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    optimizer = SGD(trainable.values(), lr=1e-3, momentum=0.9)
    model.train()
    start = time.perf_counter()
    loss = torch.stack(list(model([image], [target]).values())).sum()
    loss.backward()
    optimizer.step()
    value = loss.item()  # waits for the device
    seconds = time.perf_counter() - start
    without = [name for name, p in trainable.items() if p.grad is None or not bool(p.grad.isfinite().all())]
    peak = _peak_bytes(device)
    return TrialStep(
        loss=value,
        seconds=seconds,
        gradients=sum(p.numel() for name, p in trainable.items() if name not in without),
        without=without,
        peak_gib=peak / 2**30 if peak is not None else None,
    )


def random_target(height: int, width: int, objects: int, device: torch.device) -> dict[str, Tensor]:
    """Return the target of an image with objects of one class and random size and position.

    Args:
        height: height of the image, pixels.
        width: width of the image, pixels.
        objects: number of objects N.
        device: device of the tensors.

    Returns:
        ``boxes`` (N, 4), ``labels`` (N,) and rectangular ``masks`` (N, height, width).
    """
    corner = torch.rand(objects, 2) * torch.tensor([0.6 * width, 0.6 * height])
    size = torch.rand(objects, 2) * torch.tensor([0.3 * width, 0.3 * height]) + 16
    boxes = torch.cat([corner, corner + size], dim=1)
    masks = torch.zeros(objects, height, width, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = 1
    target = {"boxes": boxes, "labels": torch.ones(objects, dtype=torch.int64), "masks": masks}
    return {name: value.to(device) for name, value in target.items()}


def _peak_bytes(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB
