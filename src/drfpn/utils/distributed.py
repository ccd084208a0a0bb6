"""The processes that train one model together: their number, and sums over them. One alone needs none of it."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process among them, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def launched_world_size() -> int:
    """Return how many processes ``torchrun`` (or SLURM through it) has started; 1 where it has not."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def launched_as_main() -> bool:
    """Return whether this process is the one that reports, also when the group is over."""
    return int(os.environ.get("RANK", "0")) == 0


ALONE = 3
"""Exit code of a process that ends because another one did."""


def is_peer_failure(error: BaseException) -> bool:
    """Return whether an error only says that another process of this training has ended."""
    said = ("Connection closed by peer", "Connection reset by peer", "remote worker crashing", "Broken pipe")
    return launched_world_size() > 1 and isinstance(error, RuntimeError) and any(text in str(error) for text in said)


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the other processes that ``torchrun`` started, by NCCL on GPUs and Gloo elsewhere; nothing for one alone.

    Args:
        device: where this process trains.
    """
    cuda = device.type == "cuda"
    if cuda and device.index is None and launched_world_size() > 1:
        device = torch.device("cuda", local_rank())
    # the current device: where pinned memory is registered and whose generator is saved
    with torch.cuda.device(device) if cuda else nullcontext():
        if launched_world_size() == 1 or dist.is_initialized():
            yield
            return
        # numbers of the host go by Gloo there too: no GPU has to be waited for
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", device_id=device if cuda else None)
        try:
            yield
        except BaseException:
            if not cuda:  # NCCL would wait for what the others have begun, and they for this process
                dist.destroy_process_group()
            raise
        dist.destroy_process_group()


def local_rank() -> int:
    """Return the number of this process on its machine, which is that of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def local_world_size() -> int:
    """Return how many of the processes that train together run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def loss_scale(count: int | Tensor, *, least: float = 1.0, device: torch.device | None = None) -> Tensor | float:
    """Return the factor that makes a mean over ``count`` things here a part of the mean over those of all processes.

    The mean over processes of their losses, each multiplied by its factor, is the loss of the whole batch, however
    the objects are spread. That is what DDP's mean of gradients descends.

    Args:
        count: things here that the loss was divided by, if they were more than ``least``.
        least: smallest divisor.
        device: where the count is summed, unless it is a tensor.
    """
    if world_size() == 1:
        return 1.0
    here = torch.as_tensor(count, device=device).to(torch.float32).reshape(())
    all_gather_objects = here.clone()
    dist.all_reduce(all_gather_objects)
    return here.clamp(min=least) * world_size() / all_gather_objects.clamp(min=least)


def all_reduce_mean(values: Tensor) -> Tensor:
    """Return the mean of ``values`` over all processes."""
    if world_size() == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total / world_size()


def all_reduce_max(values: Sequence[int]) -> list[int]:
    """Return the largest of each of some whole numbers over all processes.

    Args:
        values: as many in each process.
    """
    if world_size() == 1:
        return list(values)
    tensor = torch.tensor(values)
    dist.all_reduce(tensor, dist.ReduceOp.MAX)
    return tensor.tolist()


def gather_objects(value: Any) -> list[Any]:
    """Return on rank 0 the values of all processes, in order, and elsewhere nothing. Values are pickled."""
    if world_size() == 1:
        return [value]
    values: list[Any] | None = [None] * world_size() if rank() == 0 else None
    dist.gather_object(value, values)
    return values or []


def all_gather_objects(value: Any) -> list[Any]:
    """Return in each process the values of all, in order. Values are pickled."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def broadcast_object(value: Any) -> Any:
    """Return what rank 0 has for ``value``."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]
