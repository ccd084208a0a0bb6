from itertools import pairwise

import pytest

from drfpn.training.schedule import lr_factor


def factor(step: int, schedule: str = "step") -> float:
    return lr_factor(step, steps_per_epoch=100, warmup_steps=50, epochs=12, milestones=[8, 11], schedule=schedule)


def test_warm_up_is_linear_and_ends_at_one() -> None:
    assert factor(0) == pytest.approx(0.001)
    assert factor(25) == pytest.approx(0.001 + 0.999 / 2)
    assert factor(50) == 1


def test_the_rate_falls_to_a_tenth_after_each_milestone() -> None:
    assert factor(799) == 1
    assert factor(800) == pytest.approx(0.1)
    assert factor(1099) == pytest.approx(0.1)
    assert factor(1100) == pytest.approx(0.01)


def test_a_cosine_falls_to_a_half_in_the_middle_and_to_nothing_at_the_end() -> None:
    assert factor(600, "cosine") == pytest.approx(0.5)
    assert factor(1200, "cosine") == pytest.approx(0, abs=1e-12)
    rates = [factor(step, "cosine") for step in range(50, 1200)]
    assert all(later < earlier for earlier, later in pairwise(rates))


def test_no_warm_up_begins_at_one() -> None:
    assert lr_factor(0, steps_per_epoch=10, warmup_steps=0, epochs=1) == 1
