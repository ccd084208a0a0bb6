"""Convolutions in 8 bits, for OpenVINO on CPUs that have such products."""

import logging
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from drfpn.export.onnx import require
from drfpn.export.openvino import save

_IN_FULL = (
    # the hidden layers of the heads: their inputs have rare large values, which cost large objects half of their AP
    "MatMul",
    # arithmetic on boxes, positions and weights
    *("Add", "Subtract", "Multiply", "Divide", "Power", "Exp", "Sqrt", "Sigmoid", "Softmax", "Clamp", "Floor"),
    *("Maximum", "Minimum", "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "TopK", "Concat"),
    *("Gather", "GatherElements", "GatherND", "Interpolate", "GridSample"),
)
"""Operations that stay in float32."""


def quantize(file: Path, out: Path, images: Iterable[Tensor]) -> None:
    """Turn a detector that :func:`to_openvino` wrote into one whose convolutions compute in 8 bits.

    Args:
        file: the detector (.xml).
        out: where to.
        images: (3, H, W) of bytes, as it will see them, from which the ranges of all maps are taken.

    Raises:
        UserError: the packages are not installed, or the file cannot be written.
    """
    openvino: Any = require("openvino", "openvino")
    nncf: Any = require("nncf", "quant")
    nncf.set_log_level(logging.ERROR)
    seen = [image.numpy() for image in images]
    graph = openvino.Core().read_model(file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, on maps without detections
        quantized = nncf.quantize(
            graph,
            nncf.Dataset(seen),
            subset_size=len(seen),
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(types=list(_IN_FULL), validate=False),
        )
    save(quantized, out)
