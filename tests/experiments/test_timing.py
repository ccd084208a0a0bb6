"""What holds for times beside each other."""

import time

import pytest
import torch
from torch import nn

from drfpn.experiments.timing import compare_times


class Sleeper(nn.Module):
    """A detector that takes as long as it is told."""

    def __init__(self, training: float, inference: float) -> None:
        super().__init__()
        self.seconds = {True: training, False: inference}
        self.weight = nn.Parameter(torch.ones(1))
        self.calls: list[tuple[bool, int]] = []

    def forward(self, images, targets) -> dict[str, torch.Tensor]:
        assert all(t["boxes"].shape == (8, 4) for t in targets)
        self.calls.append((self.training, len(images)))
        time.sleep(self.seconds[self.training])
        return {"loss": self.weight.sum()}

    def detect(self, images) -> None:
        self.calls.append((self.training, len(images)))
        time.sleep(self.seconds[self.training])


def test_each_model_is_timed_against_the_first_in_both_modes() -> None:
    models = {"one": Sleeper(0.02, 0.01), "two": Sleeper(0.04, 0.03)}
    times = compare_times(models, size=(64, 64), batch=2, turns=3)
    assert times["one"].training.median == times["one"].inference.median == 1
    assert times["two"].training.median == pytest.approx(2, rel=0.3)
    assert times["two"].inference.median == pytest.approx(3, rel=0.3)
    assert times["two"].inference.seconds == pytest.approx(0.03, rel=0.3)
    assert times["two"].training.low <= times["two"].training.median <= times["two"].training.high
    assert models["two"].calls == [(True, 2), (False, 2)] * 4  # a turn to warm up
