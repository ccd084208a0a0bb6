"""Sums of the loss terms of an epoch, read from the device a few steps at a time."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from drfpn.utils import distributed
from drfpn.utils.errors import UserError


class LossMeter:
    """Collects loss terms on the device, since reading each of them would synchronize the GPU and all processes.

    Args:
        totals: sums over the steps of this epoch by name, updated in place.
        advice: a sentence on what to change if a loss is not finite.
    """

    def __init__(self, totals: dict[str, float], advice: str = "Lower the learning rate (`base_lr`).") -> None:
        self.totals = totals
        self.advice = advice
        self.latest: dict[str, float] = {}
        """Terms of the last step that was read."""
        self.recent: list[float] = []
        """Total loss, the first term, of each step of the last reading."""
        self._names: tuple[str, ...] = ()
        self._unread: list[Tensor] = []
        self._images: list[list[str]] = []

    def add(self, terms: Mapping[str, Tensor], images: Sequence[str]) -> None:
        """Add the loss terms of a step.

        Args:
            terms: scalars on the device by name.
            images: names of the images of the step.
        """
        self._names = tuple(terms)
        self._unread.append(torch.stack([value.detach().float() for value in terms.values()]))
        self._images.append(list(images))

    def read(self, first_step: int, *counts: int) -> list[int]:
        """Read the terms since the last reading, averaged over processes, and add them to the totals.

        Args:
            first_step: number of the first step since the last reading, for messages.
            *counts: numbers of this process that are reduced together with the terms.

        Returns:
            The maximum of each of the ``counts`` over all processes.

        Raises:
            UserError: a term is not finite; the message has its value and the images of the step.
        """
        self.recent = []
        if not self._unread:
            return list(counts)
        local = torch.stack(self._unread)  # (steps, terms)
        means, maxima = distributed.all_reduce_mean(local), distributed.all_reduce_max(counts)
        values = means.cpu().double()
        images, self._unread, self._images = self._images, [], []
        if not values.isfinite().all():
            step = int((~values.isfinite().all(dim=1)).nonzero()[0])
            self._raise_not_finite(first_step + step, local[step].tolist(), images[step])
        for name, value in zip(self._names, values.sum(0).tolist(), strict=True):
            self.totals[name] = self.totals.get(name, 0.0) + value
        self.recent = values[:, 0].tolist()
        self.latest = dict(zip(self._names, values[-1].tolist(), strict=True))
        return maxima

    def _raise_not_finite(self, step: int, terms: list[float], images: list[str]) -> None:
        """Raise the error with the terms and images of the first process whose loss is not finite."""
        local = [(terms, images)] if not all(map(math.isfinite, terms)) else []
        steps = [item for process in distributed.all_gather_objects(local) for item in process]
        terms, images = steps[0] if steps else (terms, images)
        losses = ", ".join(f"{name} {value:.4g}" for name, value in zip(self._names, terms, strict=True))
        raise UserError(
            f"The loss is not finite at step {step} ({losses}); the batch was {', '.join(images)}: "
            f"check these images with 'drfpn data check'. {self.advice}"
        )
