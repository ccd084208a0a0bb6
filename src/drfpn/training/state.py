"""All that a run is at one moment, and how it is put down and taken up again."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from drfpn.training.checkpoint import load_state, save_state
from drfpn.utils import distributed
from drfpn.utils.errors import UserError


@dataclass
class TrainingState:
    """What decides how a run goes on."""

    model: nn.Module
    optimizer: Optimizer
    scaler: GradScaler
    """Of the loss, for float16; does nothing where it is not enabled."""
    average: AveragedModel | None = None
    """Moving average of the weights."""
    epoch: int = 0
    """Epochs that are over, with their evaluation."""
    step: int = 0
    """Steps done since the start of the run."""
    totals: dict[str, float] = field(default_factory=dict)
    """Sums of the loss terms over the steps of this epoch."""
    seconds: float = 0.0
    """Spent on them."""
    best: float = -1.0
    """Best AP so far."""
    stale: int = 0
    """Evaluations since."""

    @property
    def result(self) -> nn.Module:
        """The weights that are evaluated and handed on: the average where there is one."""
        return self.model if self.average is None else self.average.module

    def save(self, file: Path) -> None:
        """Write ``file``; called by all processes together, since each has generators of its own."""
        generators = distributed.gather_objects(_generators())
        if distributed.rank() > 0:
            return
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "generators": generators,
        }
        save_state(file, state | {name: getattr(self, name) for name in _COUNTS})

    def restore(self, file: Path) -> None:
        """Take up what :meth:`save` wrote.

        Raises:
            UserError: the file is missing, is no such state, or is one of another model or optimizer.
        """
        state = load_state(file)
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
            for name in _COUNTS:
                setattr(self, name, state[name])
            generators = state["generators"]
            # all processes draw alike on the CPU, so a run may go on with another number of them
            _set_generators(generators[distributed.rank() % len(generators)])
        except (KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"{file} is not the state of a run with these settings: {reason}.") from error

    def update_average(self, decay: float) -> None:
        """Move the average towards the weights of this step, by more in the first steps of a run.

        Args:
            decay: share of the average that is kept, at most (1 + step) / (10 + step).
        """
        if self.average is not None:
            self.average.multi_avg_fn = get_ema_multi_avg_fn(min(decay, (1 + self.step) / (10 + self.step)))
            self.average.update_parameters(self.model)


_COUNTS = ("epoch", "step", "totals", "seconds", "best", "stale")


def _generators() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() and torch.cuda.is_initialized() else None
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _set_generators(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["cpu"])
    if states["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
