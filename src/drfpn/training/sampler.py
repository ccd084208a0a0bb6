"""Samplers of training images that are reproducible from a seed, over several processes and accumulation steps."""

import math
from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

SampleKey = tuple[int, int]
"""Index of an image, and the seed of its random transforms."""


class SeededSampler(Sampler[SampleKey]):
    """Yields (index, seed) in a random order that depends only on the seed of the run and the epoch.

    The seed of a sample determines its random transforms, so that neither the number of workers nor a restart changes
    the training images.

    Args:
        length: number of images in the data set.
        seed: seed of the run.
    """

    def __init__(self, length: int, seed: int) -> None:
        self.length = length
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[SampleKey]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.length, generator=generator)
        seeds = torch.randint(2**62, (self.length,), generator=generator)
        return iter(list(zip(order.tolist(), seeds.tolist(), strict=True)))


class StepBatchSampler(Sampler[list[SampleKey]]):
    """Yields the micro-batches of one process: ``grad_accum_steps`` of them make an optimizer step.

    The ``batch_size`` images of a step are split into ``grad_accum_steps`` parts, and each part into one micro-batch
    for each process. The last step of an epoch has the remaining images, padded from the start of the order until the
    micro-batches have equal size.

    Args:
        sampler: order of the images.
        batch_size: images of a step, over all processes; a multiple of ``grad_accum_steps * world_size``.
        grad_accum_steps: gradient accumulation steps.
        rank: rank of this process.
        world_size: number of processes.
    """

    def __init__(
        self, sampler: SeededSampler, batch_size: int, *, grad_accum_steps: int = 1, rank: int = 0, world_size: int = 1
    ) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        self.grad_accum_steps = grad_accum_steps
        self.rank = rank
        self.world_size = world_size
        self.first_step = 0

    def set_epoch(self, epoch: int, first_step: int = 0) -> None:
        """Set what is iterated over next.

        Args:
            epoch: number of the epoch, from 0.
            first_step: steps of the epoch to skip.
        """
        self.sampler.epoch = epoch
        self.first_step = first_step

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of a whole epoch."""
        return math.ceil(len(self.sampler) / self.batch_size)

    def __len__(self) -> int:
        return (self.steps_per_epoch - self.first_step) * self.grad_accum_steps

    def __iter__(self) -> Iterator[list[SampleKey]]:
        keys = list(self.sampler)
        micro_batches = self.grad_accum_steps * self.world_size
        for step in range(self.first_step, self.steps_per_epoch):
            batch = keys[step * self.batch_size : (step + 1) * self.batch_size]
            missing = -len(batch) % micro_batches
            batch += [keys[i % len(keys)] for i in range(missing)]
            size = len(batch) // micro_batches
            for part in range(self.grad_accum_steps):
                index = part * self.world_size + self.rank
                yield batch[index * size : (index + 1) * size]
