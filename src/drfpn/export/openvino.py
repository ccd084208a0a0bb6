"""Export to OpenVINO's pair of files, .xml and .bin."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drfpn.detectors.base import DetectionModel
from drfpn.export.onnx import to_onnx
from drfpn.utils.errors import UserError
from drfpn.utils.packages import import_optional

RT_INFO_KEY = "drfpn"
"""Key of the metadata in the runtime information (``rt_info``) of a file."""


def to_openvino(model: DetectionModel, file: Path, metadata: Mapping[str, str]) -> None:
    """Export a detector to ``file`` and its weights to a .bin file beside it, by way of ONNX.

    The input ``image`` and the outputs are those of :class:`drfpn.export.EndToEndDetector`.

    Args:
        model: detector of this library, on the CPU.
        file: where to write, .xml.
        metadata: of :func:`drfpn.export.export_metadata`; stored in ``rt_info``.

    Raises:
        UserError: the packages onnx, onnxscript and openvino are not installed, or the files cannot be written.
    """
    import_optional("openvino", "openvino")
    with tempfile.TemporaryDirectory() as folder:
        onnx = Path(folder, "model.onnx")
        to_onnx(model, onnx, metadata, optimize=False)
        onnx_to_openvino(onnx, file, metadata)


def onnx_to_openvino(onnx: Path, file: Path, metadata: Mapping[str, str]) -> None:
    """Convert an ONNX file to OpenVINO's files, with weights in float32.

    Args:
        onnx: file of :func:`drfpn.export.to_onnx`.
        file: where to write, .xml; the weights are written beside it, .bin.
        metadata: of :func:`drfpn.export.export_metadata`; stored in ``rt_info``.

    Raises:
        UserError: the package openvino is not installed, or the files cannot be written.
    """
    openvino: Any = import_optional("openvino", "openvino")
    graph = openvino.convert_model(onnx)
    for key, text in metadata.items():
        graph.set_rt_info(text, [RT_INFO_KEY, key])
    save_openvino(graph, file)


def save_openvino(graph: Any, file: Path) -> None:
    """Write an OpenVINO model to ``file`` (.xml) and its weights to a .bin file beside it, both complete or neither.

    Args:
        graph: ``openvino.Model``.
        file: where to write, .xml.

    Raises:
        UserError: the files cannot be written.
    """
    openvino: Any = import_optional("openvino", "openvino")
    try:
        with tempfile.TemporaryDirectory(dir=file.parent) as folder:
            written = Path(folder, file.name)
            openvino.save_model(graph, written, compress_to_fp16=False)
            for part in (written.with_suffix(".bin"), written):
                part.replace(file.with_name(part.name))
    except OSError as error:
        raise UserError(f"{file} could not be written ({error.strerror}).") from error
