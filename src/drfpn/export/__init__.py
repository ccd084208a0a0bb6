"""Detectors for other runtimes."""

from drfpn.export.archive import to_archive
from drfpn.export.onnx import metadata_of, require, to_onnx
from drfpn.export.openvino import to_openvino
from drfpn.export.parity import Parity, blotches, measure_parity
from drfpn.export.program import LARGEST, WholeDetector, export_program
from drfpn.export.quantize import quantize
from drfpn.export.runtime import Exported, is_exported, load_exported

__all__ = [
    "LARGEST",
    "Exported",
    "Parity",
    "WholeDetector",
    "blotches",
    "export_program",
    "is_exported",
    "load_exported",
    "measure_parity",
    "metadata_of",
    "quantize",
    "require",
    "to_archive",
    "to_onnx",
    "to_openvino",
]
