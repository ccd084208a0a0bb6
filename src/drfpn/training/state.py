"""``TrainingState``: everything that a run needs to resume, saved as ``state.pt``."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from drfpn.detectors.base import Detector
from drfpn.training.checkpoint import load_state, save_state
from drfpn.utils import distributed
from drfpn.utils.errors import UserError


@dataclass
class TrainingState:
    """Model, optimizer and counters of a run."""

    model: Detector
    optimizer: Optimizer
    scaler: GradScaler
    """Loss scaler of float16; it does nothing unless enabled."""
    average: AveragedModel | None = None
    """Exponential moving average of the weights."""
    epoch: int = 0
    """Number of finished epochs, including their evaluation."""
    step: int = 0
    """Number of optimizer steps since the start of the run."""
    totals: dict[str, float] = field(default_factory=dict)
    """Sums of the loss terms over the steps of this epoch."""
    seconds: float = 0.0
    """Training time of this epoch."""
    best: float = -1.0
    """Best main metric so far."""
    stale: int = 0
    """Number of evaluations since the best one."""

    @property
    def eval_model(self) -> Detector:
        """The model that is evaluated and exported: the moving average if there is one."""
        if self.average is None:
            return self.model
        model: Any = self.average.module
        return model

    def save(self, file: Path) -> None:
        """Write the state; all processes call this together, since each has its own random generators.

        Args:
            file: written by rank 0.
        """
        generators = distributed.gather_objects(_generator_states())
        if distributed.rank() > 0:
            return
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "generators": generators,
        }
        save_state(file, state | {name: getattr(self, name) for name in _COUNTERS})

    def restore(self, file: Path) -> None:
        """Load what :meth:`save` wrote.

        Args:
            file: the saved state.

        Raises:
            UserError: the file is missing, is not such a state, or is one of another model or optimizer.
        """
        state = load_state(file)
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
            for name in _COUNTERS:
                setattr(self, name, state[name])
            generators = state["generators"]
            # CPU generators are equal in all processes, so a run can resume with another number of processes
            _set_generator_states(generators[distributed.rank() % len(generators)])
        except (KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"{file} is not the state of a run with these settings: {reason}.") from error

    def update_average(self, decay: float) -> None:
        """Update the moving average by the present weights, with a smaller decay in the first steps of a run.

        Args:
            decay: decay of the average, limited to (1 + step) / (10 + step).
        """
        if self.average is not None:
            self.average.multi_avg_fn = get_ema_multi_avg_fn(min(decay, (1 + self.step) / (10 + self.step)))
            self.average.update_parameters(self.model)


_COUNTERS = ("epoch", "step", "totals", "seconds", "best", "stale")


def _generator_states() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() and torch.cuda.is_initialized() else None
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _set_generator_states(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["cpu"])
    if states["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
