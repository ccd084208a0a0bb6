from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch.export import ExportedProgram

from drfpn import build_detector
from drfpn.export import export_metadata, export_program, to_onnx
from drfpn.training import Card, resolve
from tests.detectors.scenes import SMALL, all_scores, trained

CLASSES, CATEGORY_IDS = ("disc", "ring", "star"), (1, 5, 7)


class Traced(NamedTuple):
    model: Any
    program: ExportedProgram
    metadata: dict[str, str]


@pytest.fixture(scope="session")
def traced() -> Callable[[str], Traced]:
    """Train a small detector and trace it, once for all tests that use it."""

    @cache
    def trace(name: str) -> Traced:
        torch.manual_seed(0)
        body = "lite0" if name == "faster_rcnn" else "test_efficientnet"  # a quarter of the layers
        model = build_detector(f"{name}_{body}_drfpn", 3, **SMALL[name] | all_scores(name))
        trained(model, steps=25)
        config = resolve(f"{name}_{body}_drfpn", "shapes")
        card = Card(config=config, classes=CLASSES, category_ids=CATEGORY_IDS, versions={})
        return Traced(model, export_program(model), dict(export_metadata(model, card)))

    return trace


@pytest.fixture(scope="session")
def onnx_file(traced, tmp_path_factory) -> Callable[[str], Path]:
    """Convert a traced detector to ONNX, which takes most of the time of a test, once for all tests that use it."""

    @cache
    def convert(name: str) -> Path:
        model, program, metadata = traced(name)
        file = tmp_path_factory.mktemp("onnx") / f"{name}.onnx"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("drfpn.export.onnx.export_program", lambda model: program)
            to_onnx(model, file, metadata, optimize=False)
        return file

    return convert
