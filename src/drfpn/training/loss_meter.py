"""The loss terms of the steps of an epoch, read from the device some steps at a time."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from drfpn.utils import distributed
from drfpn.utils.errors import UserError


class LossMeter:
    """Collects loss terms where they are, since each reading lets a GPU wait, and all processes with it.

    Args:
        totals: sums over the steps of this epoch by name, which are added to.
        advice: a sentence on what to change where a loss is not finite.
    """

    def __init__(self, totals: dict[str, float], advice: str = "Lower the learning rate (-o lr_per_16=...).") -> None:
        self.totals = totals
        self.advice = advice
        self.latest: dict[str, float] = {}
        """Terms of the last step that was read."""
        self.recent: list[float] = []
        """First term, the loss, of each step of the last reading."""
        self._names: tuple[str, ...] = ()
        self._unread: list[Tensor] = []
        self._images: list[list[str]] = []

    def add(self, terms: Mapping[str, Tensor], images: Sequence[str]) -> None:
        """Collect the terms (each a number) of one step, and the names of its images."""
        self._names = tuple(terms)
        self._unread.append(torch.stack([value.detach().float() for value in terms.values()]))
        self._images.append(list(images))

    def read(self, first_step: int, *notes: int) -> list[int]:
        """Add up what was collected, as means over processes.

        Args:
            first_step: number of the first step collected, for messages.
            notes: numbers of this process.

        Returns:
            The largest of each of the ``notes`` over all processes.

        Raises:
            UserError: a term is not finite, with its value and the images of the step.
        """
        self.recent = []
        if not self._unread:
            return list(notes)
        here = torch.stack(self._unread)  # (steps, terms)
        everywhere, largest = distributed.all_reduce_mean(here), distributed.all_reduce_max(notes)
        values = everywhere.cpu().double()
        images, self._unread, self._images = self._images, [], []
        if not values.isfinite().all():
            step = int((~values.isfinite().all(dim=1)).nonzero()[0])
            self._refuse(first_step + step, here[step].tolist(), images[step])
        for name, value in zip(self._names, values.sum(0).tolist(), strict=True):
            self.totals[name] = self.totals.get(name, 0.0) + value
        self.recent = values[:, 0].tolist()
        self.latest = dict(zip(self._names, values[-1].tolist(), strict=True))
        return largest

    def _refuse(self, step: int, terms: list[float], images: list[str]) -> None:
        odd = [(terms, images)] if not all(map(math.isfinite, terms)) else []
        found = [one for process in distributed.all_gather_objects(odd) for one in process]
        terms, images = found[0] if found else (terms, images)
        said = ", ".join(f"{name} {value:.4g}" for name, value in zip(self._names, terms, strict=True))
        raise UserError(
            f"The loss is not finite at step {step} ({said}); the batch was {', '.join(images)}: "
            f"look at these with 'drfpn data check'. {self.advice}"
        )
