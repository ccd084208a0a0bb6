"""Post-training quantization of OpenVINO files: convolutions in 8 bits."""

import logging
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from drfpn.export.openvino import save_openvino
from drfpn.utils.packages import import_optional

_FLOAT32_OPERATIONS = (
    # hidden layers of the heads: their inputs have rare large values, and 8 bits halve the AP of large objects
    "MatMul",
    # arithmetic on boxes, coordinates and modulation weights
    *("Add", "Subtract", "Multiply", "Divide", "Power", "Exp", "Sqrt", "Sigmoid", "Softmax", "Clamp", "Floor"),
    *("Maximum", "Minimum", "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "TopK", "Concat"),
    *("Gather", "GatherElements", "GatherND", "Interpolate", "GridSample"),
)
"""Operations that are not quantized."""


def quantize(file: Path, out: Path, images: Iterable[Tensor]) -> None:
    """Quantize the convolutions of an OpenVINO file to 8 bits with NNCF.

    Args:
        file: detector in float32, of :func:`drfpn.export.to_openvino` (.xml).
        out: where to write, .xml.
        images: calibration images (3, H, W), uint8, of the kind that the detector will be used on; the ranges of
            activations are measured on them.

    Raises:
        UserError: the packages openvino and nncf are not installed, or the file cannot be written.
    """
    openvino: Any = import_optional("openvino", "openvino")
    nncf: Any = import_optional("nncf", "quant")
    nncf.set_log_level(logging.ERROR)
    calibration = [image.numpy() for image in images]
    graph = openvino.Core().read_model(file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numpy, for images without detections
        quantized = nncf.quantize(
            graph,
            nncf.Dataset(calibration),
            subset_size=len(calibration),
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(types=list(_FLOAT32_OPERATIONS), validate=False),
        )
    save_openvino(quantized, out)
