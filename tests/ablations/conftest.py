from collections.abc import Callable
from functools import cache

import pytest

from drfpn.ablations.store import Record
from drfpn.training import RunConfig, resolve


@cache
def config_of(seed: int) -> RunConfig:
    return resolve("faster_rcnn_lite0_fpn", "shapes", seed=seed)


@pytest.fixture
def make_record() -> Callable[..., Record]:
    """Make a finished run by its AP, without training it."""

    def make(row: str = "fpn", seed: int = 0, ap: float = 0.5, resampled: list[float] | None = None) -> Record:
        metrics = dict.fromkeys(("AP", "AP50", "AP75", "APs", "APm", "APl"), ap)
        return Record(
            row=row,
            seed=seed,
            data="0" * 16,
            images=4,
            seconds=360.0,
            metrics=metrics,
            curve=[(1, ap)],
            resampled=[ap] * 10 if resampled is None else resampled,
            config=config_of(seed),
            versions={},
        )

    return make
