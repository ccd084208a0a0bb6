"""The order of training images, from a seed alone."""

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler


class SeededSampler(Sampler[tuple[int, int]]):
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

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.length, generator=generator)
        seeds = torch.randint(2**62, (self.length,), generator=generator)
        return iter(list(zip(order.tolist(), seeds.tolist(), strict=True)))
