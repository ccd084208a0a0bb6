from functools import partial
from typing import Any

import pytest

from drfpn.training import RunConfig, resolve

TINY = ("width=16", "min_size=64", "max_size=96", "batch_size=2", "workers=0", "weights_backbone=null")


@pytest.fixture
def tiny_config() -> Any:
    """Make the settings of a run that takes a second."""

    def make(*overrides: str, model: str = "faster_rcnn_lite0_drfpn", epochs: int = 1) -> RunConfig:
        return resolve(model, "shapes", epochs=epochs, overrides=[*TINY, *overrides])

    return make


@pytest.fixture
def quick_config(tiny_config) -> Any:
    """Make the settings of a run with the smallest model, whose state takes a megabyte."""
    return partial(tiny_config, model="retinanet_test_efficientnet_fpn")
