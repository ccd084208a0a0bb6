"""Times relative to a baseline."""

import pytest
import torch
from torch import nn

from drfpn.ablations.timing import RelativeTimes, TimeRatio, compare_times


class Clock:
    """A clock that only moves when it is told to."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Sleeper(nn.Module):
    """A detector that takes as long as it is told, and every time a little longer than before."""

    def __init__(self, clock: Clock, training: float, inference: float, fusing: float) -> None:
        super().__init__()
        self.clock = clock
        self.backbone = nn.Module()
        self.backbone.body = lambda batch: {"0": batch}
        self.backbone.neck = lambda maps: self.fuse(maps, fusing)
        self.seconds = {True: training, False: inference}
        self.weight = nn.Parameter(torch.ones(1))
        self.calls: list[tuple[bool, int]] = []

    def forward(self, images, targets) -> dict[str, torch.Tensor]:
        assert all(t["boxes"].shape == (8, 4) for t in targets)
        self.take_time(images)
        return {"loss": self.weight.sum()}

    def detect(self, images) -> None:
        self.take_time(images)

    def fuse(self, maps, seconds: float) -> None:
        assert maps["0"].shape == (2, 3, 64, 64)
        self.clock.now += seconds

    def take_time(self, images) -> None:
        self.calls.append((self.training, len(images)))
        self.clock.now += self.seconds[self.training] * len(self.calls)


def test_each_model_is_timed_against_the_first_in_every_work(monkeypatch) -> None:
    """A machine that slows down slows down all: the ratios hold."""
    clock = Clock()
    monkeypatch.setattr("drfpn.ablations.timing.time", clock)
    models = {"one": Sleeper(clock, 2.0, 1.0, 0.5), "two": Sleeper(clock, 4.0, 3.0, 0.75)}
    times = compare_times(models, size=(64, 64), batch_size=2, turns=3)
    assert times["one"].training.median == times["one"].inference.median == 1
    assert times["two"].training.median == times["two"].training.low == times["two"].training.high == pytest.approx(2)
    assert times["two"].inference.median == pytest.approx(3)
    assert models["two"].calls == [(True, 2), (False, 2)] * 4  # a turn to warm up
    assert times["two"].training.seconds == pytest.approx(4 * 5)  # of its calls 3, 5 and 7
    assert times["two"].neck.median == pytest.approx(1.5)


def test_the_former_key_of_the_neck_is_read() -> None:
    ratio = TimeRatio(median=1, low=1, high=1, seconds=1)
    times = RelativeTimes(training=ratio, inference=ratio, neck=ratio)
    former = times.model_dump()
    former["pyramid"] = former.pop("neck")
    assert RelativeTimes.model_validate(former) == times
