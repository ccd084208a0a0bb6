"""Which anchors and regions a loss looks at, so that the choice for an image does not depend on the others."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

from drfpn import processes


class BalancedSampler(BalancedPositiveNegativeSampler):
    """torchvision's sampler with a generator of its own for each image.

    It is seeded by one number from the global generator and the image's place in the batch of all processes. So
    processes that share a batch choose what one alone would, and their global generators stay in step, whatever the
    images hold.
    """

    def __call__(self, matched_idxs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Choose positives and negatives of each image.

        Args:
            matched_idxs: (A,) an image: at least 1 for positives, 0 for negatives, below for neither.

        Returns:
            Masks (A,) of the positives and of the negatives chosen, a tensor an image.
        """
        chosen = [
            self._choose(matched, generator)
            for matched, generator in zip(matched_idxs, _generators(matched_idxs), strict=True)
        ]
        return [positive for positive, _ in chosen], [negative for _, negative in chosen]

    def _choose(self, matched: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        positive, negative = (matched >= 1).nonzero().squeeze(1), (matched == 0).nonzero().squeeze(1)
        positive = _some(positive, int(self.batch_size_per_image * self.positive_fraction), generator)
        negative = _some(negative, self.batch_size_per_image - len(positive), generator)
        nothing = torch.zeros_like(matched, dtype=torch.uint8)
        return nothing.index_fill(0, positive, 1), nothing.index_fill(0, negative, 1)


def seeded(given: BalancedPositiveNegativeSampler) -> BalancedSampler:
    """Return a ``BalancedSampler`` with the settings of torchvision's."""
    return BalancedSampler(given.batch_size_per_image, given.positive_fraction)


def _generators(per_image: list[Tensor]) -> Iterator[torch.Generator]:
    seed = int(torch.randint(2**62, ()))
    first = processes.rank() * len(per_image)
    for place, tensor in enumerate(per_image, start=first):
        yield torch.Generator(tensor.device).manual_seed(seed + place)


def _some(indices: Tensor, count: int, generator: torch.Generator) -> Tensor:
    order = torch.randperm(len(indices), generator=generator, device=indices.device)
    return indices[order[:count]]
