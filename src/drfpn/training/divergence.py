"""Noticing that a run diverges while there is still time to say why."""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from drfpn.necks.drfpn.ablations import SRBBottomUp
from drfpn.necks.drfpn.crb import ChannelRefinement
from drfpn.necks.drfpn.srb import SpatialRefinementBlock
from drfpn.training.config import RunConfig
from drfpn.utils.console import say

STEPS_BETWEEN_LOOKS = 10
"""Each costs a second prediction of omega, without its gradient."""

LOSS_LIMIT = 100.0
"""Times the median of the losses before."""

OMEGA_LIMIT, GATE_LIMIT = 3.0, 5.0
"""Largest magnitudes of runs that train: omega begins at 0, the gates at 1; trained ones stay below 1 and 2."""

_MEDIAN_OF = 100
_LEAST = 10
"""Losses that a median is taken of, at most and at least."""


class DivergenceWatch:
    """Looks at the loss of every step and now and then at omega of SRB and the gates of CRB; says what it sees once.

    Args:
        model: the detector that is trained.
        config: of the run, to say what to change.
    """

    def __init__(self, model: Any, config: RunConfig) -> None:
        self.config = config
        self.said = False
        self._losses: deque[float] = deque(maxlen=_MEDIAN_OF)
        neck: Any = getattr(getattr(model, "backbone", None), "neck", None)
        self._blocks: list[tuple[int, nn.Module]] = [
            (i, block)
            for path in ("top_down", "bottom_up")
            for i, step in enumerate(getattr(getattr(neck, path, None), "steps", ()))
            for block in step.modules()
            if isinstance(block, SpatialRefinementBlock | ChannelRefinement)
        ]
        self._highest_at_start = 0.0
        self._first = 2 if len(getattr(neck, "in_channels", ())) > 3 else 3
        self._seen: list[tuple[int, nn.Module, Tensor]] = []

    @contextmanager
    def looking(self, step: int) -> Iterator[None]:
        """Look at omega and the gates during the forward pass of ``step`` if it is time to."""
        if self.said or step % STEPS_BETWEEN_LOOKS:
            yield
            return
        hooks = [self._hook(i, block) for i, block in self._blocks]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _hook(self, i: int, block: Any) -> RemovableHandle:
        def note(value: Tensor) -> None:
            self._seen.append((i, block, value.detach().abs().max()))

        if isinstance(block, ChannelRefinement):
            # seen where it is predicted: a second prediction would move BatchNorm's statistics again
            return block.gate.register_forward_hook(lambda module, inputs, gates: note(gates))
        # not where it is predicted: on a CPU the layers of SRB are composed and not called
        upwards = isinstance(block, SRBBottomUp)

        def look(module: nn.Module, maps: tuple[Tensor, Tensor], merged: Tensor) -> None:
            with torch.no_grad():
                note(block.refine(*(reversed(maps) if upwards else maps))[1])

        return block.register_forward_hook(look)

    def read(self, first_step: int, losses: Sequence[float]) -> None:
        """Judge the losses of the steps from ``first_step`` on, and what was seen in them."""
        largest = [(i, block, float(value)) for i, block, value in self._seen]
        self._seen.clear()
        for step, loss in enumerate(losses, start=first_step):
            usual = median(self._losses) if len(self._losses) >= _LEAST else None
            if usual is None:
                self._highest_at_start = max(self._highest_at_start, loss)
            elif not self.said and loss > LOSS_LIMIT * usual and loss > self._highest_at_start:
                self._say(
                    f"At step {step} the loss is {loss:.4g}, where its median is {usual:.4g}: the run is likely to "
                    f"diverge. {self.advice()}"
                )
            self._losses.append(loss)
        for i, block, value in largest:
            spatial = isinstance(block, SpatialRefinementBlock)
            if not self.said and value > (OMEGA_LIMIT if spatial else GATE_LIMIT):
                part, start = ("omega of SRB", 0) if spatial else ("a gate of CRB", 1)
                levels = f"C{self._first + i} and C{self._first + i + 1}"
                self._say(
                    f"By step {first_step + len(losses) - 1} {part} between {levels} has a magnitude of {value:.3g}, "
                    f"where it began at {start}: the run is likely to diverge. {self.advice()}"
                )

    def _say(self, sentence: str) -> None:
        self.said = True
        say(sentence)

    def advice(self) -> str:
        """Return a sentence on what to change where a run diverges."""
        lower = f"lower the learning rate (-o lr_per_16={self.config.lr_per_16 / 2:g})"
        convention = self.config.neck_options.get("convention")
        if convention in ("paper", "release") and self._blocks:
            return (
                f"Convention '{convention}' has no bound on omega and the gates: use "
                f"-o neck_options.convention=bounded, or {lower}."
            )
        clip = "" if self.config.clip_norm else " or clip the gradient (-o clip_norm=10)"
        return f"{lower[0].upper()}{lower[1:]}, lengthen the warm-up (-o warmup_steps=N){clip}."
