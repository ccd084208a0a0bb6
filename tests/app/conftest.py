from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from drfpn.app import SHIPPED_WEIGHTS
from drfpn.app.predictors import PredictorPool
from drfpn.data import open_dataset
from drfpn.inference import Predictor, load_predictor
from drfpn.training import Card, resolve
from drfpn.training.checkpoint import build


@pytest.fixture(scope="package")
def small_predictor() -> Callable[[str], Predictor]:
    """Build an untrained detector of one class, whose neck has 16 channels."""

    def make(model: str) -> Predictor:
        torch.manual_seed(0)
        config = resolve(model, "shapes", overrides=("width=16", "weights_backbone=null"))
        return Predictor(build(Card(config=config, classes=("a",), category_ids=(1,))).eval(), ("a",), (1,))

    return make


@pytest.fixture(scope="package")
def pool(small_predictor: Callable[[str], Predictor]) -> PredictorPool:
    return PredictorPool(
        {
            "shapes": load_predictor(SHIPPED_WEIGHTS),
            "fpn": small_predictor("faster_rcnn_lite0_fpn"),
            "retinanet": small_predictor("retinanet_lite0_drfpn"),
        }
    )


@pytest.fixture(scope="package")
def image() -> Tensor:
    return open_dataset("shapes", "test").image(0)
