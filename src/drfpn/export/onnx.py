"""Export to ONNX."""

import io
import warnings
from collections.abc import Mapping
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

import torch

from drfpn.detectors.base import DetectionModel
from drfpn.export.program import export_program
from drfpn.ops import dispatch
from drfpn.utils.io import write_atomically
from drfpn.utils.packages import import_optional

OPSET = 18
"""Version of the ONNX operator set; from 20 on, GridSample's mode is ``linear``, which TensorRT reads as nearest."""
OUTPUT_NAMES = ("boxes", "scores", "labels", "masks")
"""Names of the outputs, in this order; detectors without masks have the first three."""


def to_onnx(
    model: DetectionModel,
    file: Path,
    metadata: Mapping[str, str],
    *,
    optimize: bool = True,
    grid_sample: bool = True,
) -> None:
    """Export a detector to an ONNX file.

    The input ``image`` and the outputs are those of :class:`drfpn.export.EndToEndDetector`.

    Args:
        model: detector of this library, on the CPU.
        file: where to write, .onnx.
        metadata: of :func:`drfpn.export.export_metadata`; stored in ``metadata_props``.
        optimize: whether the graph is optimized (constant folding, ...), which takes half of the time; not needed where
            another tool converts the file.
        grid_sample: whether DRFPN's SRB samples by GridSample, or by GatherElements, for runtimes without it.

    Raises:
        UserError: the packages onnx and onnxscript are not installed, or the file cannot be written.
    """
    for package in ("onnx", "onnxscript"):
        import_optional(package, "onnx")
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):  # the exporter prints its progress
        warnings.simplefilter("ignore")
        with nullcontext() if grid_sample else dispatch.avoid_grid_sample():
            program = export_program(model)
        converted = torch.onnx.export(program, dynamo=True, opset_version=OPSET, verbose=False, optimize=optimize)
    assert converted is not None
    graph = converted.model.graph
    (image,) = graph.inputs
    image.name = "image"
    for value, name in zip(graph.outputs, OUTPUT_NAMES, strict=False):
        value.name = name
    proto = converted.model_proto
    for key, text in metadata.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, text
    write_atomically(file, proto.SerializeToString())
