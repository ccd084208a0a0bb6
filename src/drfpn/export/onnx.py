"""A whole detector as one ONNX file."""

import io
import json
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

import drfpn
from drfpn.export.program import export_program
from drfpn.training import Card
from drfpn.utils.errors import UserError
from drfpn.utils.io import write_atomically

OPSET = 20
"""Of ONNX: the first whose GridSample is the one that runtimes have today."""
OUTPUTS = ("boxes", "scores", "labels", "masks")
"""What a file gives, in this order; masks only of mask detectors."""


def require(package: str, extra: str) -> ModuleType:
    """Return an optional package.

    Raises:
        UserError: it is not installed.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise UserError(
            f'This needs the package {package}, which is not installed: pip install "drfpn[{extra}]"'
        ) from error


def metadata_of(model: Any, card: Card) -> dict[str, str]:
    """Return what travels in an exported file; ``classes`` and ``category_ids`` are JSON lists."""
    heads = getattr(model, "roi_heads", model)
    threshold = getattr(heads, "stages", [heads])[-1].score_thresh
    return {
        "library": "drfpn",
        "version": drfpn.__version__,
        "model": card.config.model,
        "classes": json.dumps(card.classes),
        "category_ids": json.dumps(card.category_ids),
        "score_threshold": str(threshold),
    }


def to_onnx(model: nn.Module, file: Path, metadata: Mapping[str, str], *, optimize: bool = True) -> None:
    """Write a detector to an ONNX file: an image (3, H, W) of bytes in, detections as of ``WholeDetector`` out.

    Args:
        model: a detector of this library, on the CPU.
        file: where to.
        metadata: text that travels in the file.
        optimize: whether constants are folded and the like, half of the time; what converts the file may do it too.

    Raises:
        UserError: the packages are not installed, or the file cannot be written.
    """
    for package in ("onnx", "onnxscript"):
        require(package, "onnx")
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):  # the exporter tells its steps on stdout
        warnings.simplefilter("ignore")
        program = export_program(model)
        converted = torch.onnx.export(program, dynamo=True, opset_version=OPSET, verbose=False, optimize=optimize)
    assert converted is not None
    graph = converted.model.graph
    (image,) = graph.inputs
    image.name = "image"
    for value, name in zip(graph.outputs, OUTPUTS, strict=False):
        value.name = name
    proto = converted.model_proto
    for key, text in metadata.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, text
    write_atomically(file, proto.SerializeToString())
