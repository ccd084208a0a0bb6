"""``DivergenceMonitor``: warns when a training run is likely to diverge, with advice on what to change."""

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from drfpn.necks.base import Level
from drfpn.necks.drfpn.ablations import SRBBottomUp
from drfpn.necks.drfpn.crb import ChannelRefinement
from drfpn.necks.drfpn.srb import SpatialRefinementBlock
from drfpn.training.config import RunConfig

logger = logging.getLogger(__name__)

OBSERVE_EVERY = 10
"""Steps between observations of omega, each of which predicts it a second time, without gradient."""

LOSS_LIMIT = 100.0
"""Factor by which a loss may exceed the median of the losses before it."""

OMEGA_LIMIT, GATE_LIMIT = 3.0, 5.0
"""Magnitudes that only diverging runs exceed: omega starts at 0 and gates at 1; trained ones stay below 1 and 2."""

_MEDIAN_WINDOW = 100
_MIN_LOSSES = 10
"""Number of losses that the median is computed from, at most and at least."""


class DivergenceMonitor:
    """Monitors the loss of every step, and every few steps omega of SRB and the gates of CRB; warns once.

    Args:
        model: the detector in training.
        config: settings of the run, for the advice.
    """

    def __init__(self, model: nn.Module, config: RunConfig) -> None:
        self.config = config
        self.warned = False
        self._losses: deque[float] = deque(maxlen=_MEDIAN_WINDOW)
        neck: Any = getattr(getattr(model, "backbone", None), "neck", None)
        self._blocks: list[tuple[int, nn.Module]] = [
            (i, block)
            for path in ("top_down", "bottom_up")
            for i, step in enumerate(getattr(getattr(neck, path, None), "steps", ()))
            for block in step.modules()
            if isinstance(block, SpatialRefinementBlock | ChannelRefinement)
        ]
        self._max_initial_loss = 0.0
        detector: Any = model
        self._levels: list[Level] = detector.backbone.out_levels() if self._blocks else []
        self._observations: list[tuple[int, nn.Module, Tensor]] = []

    @contextmanager
    def observe(self, step: int) -> Iterator[None]:
        """Observe omega and the gates during the forward pass inside the context, every ``OBSERVE_EVERY`` steps.

        Args:
            step: number of the step.
        """
        if self.warned or step % OBSERVE_EVERY:
            yield
            return
        hooks = [self._register_hook(i, block) for i, block in self._blocks]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _register_hook(self, i: int, block: Any) -> RemovableHandle:
        def add(value: Tensor) -> None:
            self._observations.append((i, block, value.detach().abs().max()))

        if isinstance(block, ChannelRefinement):
            # hooked where it is predicted: a second prediction would update BatchNorm's statistics again
            return block.gate.register_forward_hook(lambda module, inputs, gates: add(gates))
        # predicted again, since the CPU implementation of SRB does not call its layers
        bottom_up = isinstance(block, SRBBottomUp)

        def predict(module: nn.Module, maps: tuple[Tensor, Tensor], output: Tensor) -> None:
            with torch.no_grad():
                add(block.predict_offset_and_weight(*(reversed(maps) if bottom_up else maps))[1])

        return block.register_forward_hook(predict)

    def update(self, first_step: int, losses: Sequence[float]) -> None:
        """Check the losses of some steps and the observations made in them, and log a warning if they are too large.

        Args:
            first_step: number of the first of the steps.
            losses: total loss of each step.
        """
        maxima = [(i, block, float(value)) for i, block, value in self._observations]
        self._observations.clear()
        for step, loss in enumerate(losses, start=first_step):
            typical = median(self._losses) if len(self._losses) >= _MIN_LOSSES else None
            if typical is None:
                self._max_initial_loss = max(self._max_initial_loss, loss)
            elif not self.warned and loss > LOSS_LIMIT * typical and loss > self._max_initial_loss:
                self._warn(
                    f"At step {step} the loss is {loss:.4g}, where its median is {typical:.4g}: the run is likely to "
                    f"diverge. {self.advice()}"
                )
            self._losses.append(loss)
        for i, block, value in maxima:
            spatial = isinstance(block, SpatialRefinementBlock)
            if not self.warned and value > (OMEGA_LIMIT if spatial else GATE_LIMIT):
                part, start = ("omega of SRB", 0) if spatial else ("a gate of CRB", 1)
                levels = f"C{self._levels[i].number} and C{self._levels[i + 1].number}"
                self._warn(
                    f"By step {first_step + len(losses) - 1} {part} between {levels} has a magnitude of {value:.3g}, "
                    f"where it started at {start}: the run is likely to diverge. {self.advice()}"
                )

    def _warn(self, message: str) -> None:
        self.warned = True
        logger.warning("%s", message)

    def advice(self) -> str:
        """Return a sentence on what to change if the run diverges."""
        lower = f"lower the learning rate (`base_lr={self.config.base_lr / 2:g}`)"
        convention = self.config.neck_options.get("convention")
        if convention in ("paper", "release") and self._blocks:
            return (
                f"Convention '{convention}' has no bound on omega and the gates: use "
                f"`neck_options.convention=bounded`, or {lower}."
            )
        clip = "" if self.config.clip_norm else " or clip the gradient (`clip_norm=10`)"
        return f"{lower[0].upper()}{lower[1:]}, lengthen the warm-up (`warmup_steps=N`){clip}."
