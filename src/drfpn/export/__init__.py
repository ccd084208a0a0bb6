"""Export of detectors to ONNX, OpenVINO, ``torch.export`` and a web page, and inference with exported files.

Example::

    model, card = drfpn.training.load_detector("runs/RUN")
    to_onnx(model, Path("detector.onnx"), export_metadata(model, card))
    exported = load_exported("detector.onnx")
    print(compare_outputs(model, exported, smooth_test_images()))
"""

from drfpn.export.metadata import export_metadata
from drfpn.export.onnx import to_onnx
from drfpn.export.openvino import onnx_to_openvino, to_openvino
from drfpn.export.program import MAX_IMAGE_SIDE, EndToEndDetector, export_program
from drfpn.export.pt2 import to_pt2
from drfpn.export.quantize import quantize
from drfpn.export.runtime import ExportedDetector, is_exported_file, load_exported
from drfpn.export.verification import OutputDifferences, compare_outputs, smooth_test_images
from drfpn.export.web import to_web

__all__ = [
    "MAX_IMAGE_SIDE",
    "EndToEndDetector",
    "ExportedDetector",
    "OutputDifferences",
    "compare_outputs",
    "export_metadata",
    "export_program",
    "is_exported_file",
    "load_exported",
    "onnx_to_openvino",
    "quantize",
    "smooth_test_images",
    "to_onnx",
    "to_openvino",
    "to_pt2",
    "to_web",
]
