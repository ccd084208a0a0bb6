"""Process groups of distributed training, and collectives that do nothing in a single process."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

PEER_FAILURE_EXIT_CODE = 3
"""Exit code of a process that ends because another process of its group has failed."""


def world_size() -> int:
    """Return the number of processes in the group, 1 without one."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the rank of this process in the group, 0 without one."""
    return dist.get_rank() if world_size() > 1 else 0


def launched_world_size() -> int:
    """Return the number of processes that ``torchrun`` (or SLURM through it) has started, 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def launched_as_main() -> bool:
    """Return whether this process has rank 0, also while there is no process group."""
    return int(os.environ.get("RANK", "0")) == 0


def local_rank() -> int:
    """Return the rank of this process on its machine, which is the index of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def local_world_size() -> int:
    """Return the number of processes of the group on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def is_peer_failure(error: BaseException) -> bool:
    """Return whether an error is the consequence of the failure of another process in the group.

    Args:
        error: an exception of this process.
    """
    messages = ("Connection closed by peer", "Connection reset by peer", "remote worker crashing", "Broken pipe")
    return (
        launched_world_size() > 1
        and isinstance(error, RuntimeError)
        and any(message in str(error) for message in messages)
    )


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the processes that ``torchrun`` has started, with NCCL on GPUs and Gloo elsewhere.

    Does nothing in a single process, or if there is a process group already.

    Args:
        device: device of this process.
    """
    cuda = device.type == "cuda"
    if cuda and device.index is None and launched_world_size() > 1:
        device = torch.device("cuda", local_rank())
    # the current device is where pinned memory is registered and whose generator is saved
    with torch.cuda.device(device) if cuda else nullcontext():
        if launched_world_size() == 1 or dist.is_initialized():
            yield
            return
        # CPU tensors are reduced by Gloo on GPU machines too, which does not synchronize the GPU
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", device_id=device if cuda else None)
        try:
            yield
        except BaseException:
            if not cuda:  # NCCL would wait for pending collectives, and the other processes for this one
                dist.destroy_process_group()
            raise
        dist.destroy_process_group()


def loss_scale(count: int | Tensor, *, minimum: float = 1.0, device: torch.device | None = None) -> Tensor | float:
    """Return the factor of a local loss, a mean over ``count`` objects, in the loss of the whole batch.

    The mean over processes of their losses, each multiplied by its factor, is the mean over the objects of all
    processes, however these are distributed. Its gradient is the one that ``DistributedDataParallel`` computes.

    Args:
        count: number of local objects; the loss was divided by ``max(count, minimum)``.
        minimum: smallest divisor.
        device: device on which the count is summed, unless it is a tensor.
    """
    if world_size() == 1:
        return 1.0
    local = torch.as_tensor(count, device=device).to(torch.float32).reshape(())
    total = local.clone()
    dist.all_reduce(total)
    return local.clamp(min=minimum) * world_size() / total.clamp(min=minimum)


def all_reduce_mean(values: Tensor) -> Tensor:
    """Return the elementwise mean over processes.

    Args:
        values: a tensor of the same shape in each process.
    """
    if world_size() == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total / world_size()


def all_reduce_max(values: Sequence[int]) -> list[int]:
    """Return the elementwise maximum over processes.

    Args:
        values: integers, as many in each process.
    """
    if world_size() == 1:
        return list(values)
    tensor = torch.tensor(values)
    dist.all_reduce(tensor, dist.ReduceOp.MAX)
    return tensor.tolist()


def gather_objects(value: Any) -> list[Any]:
    """Return the objects of all processes by rank on rank 0, an empty list on the others.

    Args:
        value: an object that can be pickled.
    """
    if world_size() == 1:
        return [value]
    values: list[Any] | None = [None] * world_size() if rank() == 0 else None
    dist.gather_object(value, values)
    return values or []


def all_gather_objects(value: Any) -> list[Any]:
    """Return the objects of all processes by rank, in each process.

    Args:
        value: an object that can be pickled.
    """
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def broadcast_object(value: Any) -> Any:
    """Return the object of rank 0 in each process.

    Args:
        value: an object that can be pickled; used on rank 0 only.
    """
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]
