"""Which images a step takes, from a seed alone."""

import math
from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

Key = tuple[int, int]
"""Index of an image, and the seed of its random transforms."""


class SeededSampler(Sampler[Key]):
    """Yields (index, seed) in an order that depends on the run's seed and the epoch alone.

    The seed of a sample decides its random transforms, so that neither the number of workers nor a restart changes
    what the model sees.

    Args:
        length: images in the data set.
        seed: of the run.
    """

    def __init__(self, length: int, seed: int) -> None:
        self.length = length
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Key]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.length, generator=generator)
        seeds = torch.randint(2**62, (self.length,), generator=generator)
        return iter(list(zip(order.tolist(), seeds.tolist(), strict=True)))


class StepBatches(Sampler[list[Key]]):
    """Yields what one process takes for each part of each step: the parts of all processes together are the step.

    A step's ``batch_size`` images are cut into ``accumulate`` parts and each of these into one piece for each process.
    The last step of an epoch has the images that remain, filled up from the start of the order until the pieces are
    equal.

    Args:
        sampler: the order.
        batch_size: images a step, over all processes; a multiple of ``accumulate * processes``.
        accumulate: parts of a step.
        rank: number of this process.
        processes: how many there are.
    """

    def __init__(
        self, sampler: SeededSampler, batch_size: int, *, accumulate: int = 1, rank: int = 0, processes: int = 1
    ) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        self.accumulate = accumulate
        self.rank = rank
        self.processes = processes
        self.first_step = 0

    def start(self, epoch: int, first_step: int = 0) -> None:
        """Say which epoch comes next, counted from 0, and which of its steps are done already."""
        self.sampler.epoch = epoch
        self.first_step = first_step

    @property
    def steps(self) -> int:
        """Steps of a whole epoch."""
        return math.ceil(len(self.sampler) / self.batch_size)

    def __len__(self) -> int:
        return (self.steps - self.first_step) * self.accumulate

    def __iter__(self) -> Iterator[list[Key]]:
        keys = list(self.sampler)
        pieces = self.accumulate * self.processes
        for step in range(self.first_step, self.steps):
            batch = keys[step * self.batch_size : (step + 1) * self.batch_size]
            missing = -len(batch) % pieces
            batch += [keys[i % len(keys)] for i in range(missing)]
            size = len(batch) // pieces
            for part in range(self.accumulate):
                piece = part * self.processes + self.rank
                yield batch[piece * size : (piece + 1) * size]
