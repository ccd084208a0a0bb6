"""A whole detector as OpenVINO's pair of files, .xml and .bin."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from drfpn.export.onnx import require, to_onnx
from drfpn.utils.errors import UserError

SECTION = "drfpn"
"""Of the file's runtime information: what travels with it."""


def to_openvino(model: nn.Module, file: Path, metadata: Mapping[str, str]) -> None:
    """Write a detector to ``file`` (.xml) and its weights beside it (.bin), by way of ONNX.

    Args and errors as of :func:`drfpn.export.onnx.to_onnx`.
    """
    require("openvino", "openvino")
    with tempfile.TemporaryDirectory() as folder:
        onnx = Path(folder, "model.onnx")
        to_onnx(model, onnx, metadata, optimize=False)
        convert(onnx, file, metadata)


def convert(onnx: Path, file: Path, metadata: Mapping[str, str]) -> None:
    """Turn an ONNX file into ``file`` (.xml) and its weights, in float32, beside it (.bin)."""
    openvino: Any = require("openvino", "openvino")
    graph = openvino.convert_model(onnx)
    for key, text in metadata.items():
        graph.set_rt_info(text, [SECTION, key])
    save(graph, file)


def save(graph: Any, file: Path) -> None:
    """Write a graph to ``file`` (.xml) and its weights beside it, at once or not at all."""
    openvino: Any = require("openvino", "openvino")
    try:
        with tempfile.TemporaryDirectory(dir=file.parent) as folder:
            written = Path(folder, file.name)
            openvino.save_model(graph, written, compress_to_fp16=False)
            for part in (written.with_suffix(".bin"), written):
                part.replace(file.with_name(part.name))
    except OSError as error:
        raise UserError(f"{file} could not be written ({error.strerror}).") from error
