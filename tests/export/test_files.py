"""Exported files predict what the detector predicts, in ONNX Runtime, OpenVINO and PyTorch."""

import shutil

import pytest
import torch

from drfpn.export import (
    ExportedDetector,
    compare_outputs,
    load_exported,
    quantize,
    to_openvino,
    to_pt2,
)
from drfpn.export.openvino import onnx_to_openvino

SIZES = ((64, 64), (97, 131), (33, 500), (240, 271))
"""Height and width of test images; none is the size that is traced."""


def assert_described(exported: ExportedDetector, name: str) -> None:
    assert (exported.classes, exported.category_ids) == (("disc", "ring", "star"), (1, 5, 7))
    assert exported.model.startswith(f"{name}_")
    assert exported.model.endswith("_drfpn")


def assert_same(model, exported: ExportedDetector) -> None:
    """Boxes are equal within 1e-2 px, scores within 1e-4; of nearly equal scores NMS may keep another box."""
    torch.manual_seed(0)
    images = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in SIZES]
    differences = compare_outputs(model, exported, images)
    assert differences.detections >= 20
    assert differences.matched >= 0.95 * differences.detections
    assert differences.boxes < 1e-2
    assert differences.scores < 1e-4
    assert (differences.masks is not None) == exported.masks
    assert (differences.masks or 0) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["faster_rcnn", "cascade_mask_rcnn", "retinanet", "fcos"])
def test_exported_files_predict_the_same_in_both_runtimes(name, traced, onnx_file, tmp_path) -> None:
    """The other two detectors are parts of these: a mask head after one stage, stages without masks."""
    for package in ("onnxruntime", "onnxscript", "openvino"):
        pytest.importorskip(package)
    model, _, metadata = traced(name)
    openvino = tmp_path / "model.xml"
    onnx_to_openvino(onnx_file(name), openvino, metadata)
    for file in (onnx_file(name), openvino):
        exported = load_exported(file)
        assert_described(exported, name)
        assert_same(model, exported)


@pytest.mark.slow
def test_an_archive_of_torch_export_predicts_the_same(traced, tmp_path, monkeypatch) -> None:
    name, file = "mask_rcnn", tmp_path / "model.pt2"
    model, program, metadata = traced(name)
    monkeypatch.setattr("drfpn.export.pt2.export_program", lambda model: program)
    to_pt2(model, file, metadata)
    exported = load_exported(file)
    assert_described(exported, name)
    assert_same(model, exported)


@pytest.mark.slow
def test_a_quantized_detector_has_weights_of_8_bits_and_its_metadata(traced, onnx_file, tmp_path, monkeypatch) -> None:
    pytest.importorskip("nncf")
    model, _, metadata = traced("retinanet")
    converted = onnx_file("retinanet")
    monkeypatch.setattr("drfpn.export.openvino.to_onnx", lambda model, file, *_, **__: shutil.copy(converted, file))
    full, small = tmp_path / "full.xml", tmp_path / "small.xml"
    to_openvino(model, full, metadata)
    quantize(full, small, (torch.randint(0, 256, (3, 97, 131), dtype=torch.uint8) for _ in range(4)))
    assert small.with_suffix(".bin").stat().st_size < full.with_suffix(".bin").stat().st_size / 2
    exported = load_exported(small)
    assert_described(exported, "retinanet")
    assert set(exported.detect([torch.zeros(3, 80, 120, dtype=torch.uint8)])[0]) == {"boxes", "scores", "labels"}
