"""Exported files predict what the detector predicts, in ONNX Runtime, OpenVINO and PyTorch."""

import pytest
import torch

from drfpn import build_detector
from drfpn.detectors import DETECTORS
from drfpn.export import (
    ExportedDetector,
    compare_outputs,
    export_metadata,
    load_exported,
    quantize,
    to_onnx,
    to_openvino,
    to_pt2,
)
from drfpn.export.openvino import onnx_to_openvino
from drfpn.training import Card, resolve
from tests.detectors.scenes import SMALL, all_scores, trained

SIZES = ((64, 64), (97, 131), (33, 500), (240, 271))
"""Height and width of test images; none is the size that is traced."""


def make_card(model: str, classes: tuple[str, ...], category_ids: tuple[int, ...] = (1, 5, 7)) -> Card:
    return Card(config=resolve(model, "shapes"), classes=classes, category_ids=category_ids, versions={})


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
@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_predicts_the_same_in_both_runtimes(name, tmp_path) -> None:
    for package in ("onnxruntime", "onnxscript", "openvino"):
        pytest.importorskip(package)
    classes = ("disc", "ring", "star")
    model = trained(build_detector(f"{name}_lite0_drfpn", 3, **SMALL[name] | all_scores(name)), steps=25)
    card = make_card(f"{name}_lite0_drfpn", classes)
    files = [tmp_path / "model.onnx", tmp_path / "model.xml"]
    to_onnx(model, files[0], export_metadata(model, card), optimize=False)
    onnx_to_openvino(files[0], files[1], export_metadata(model, card))
    for file in files:
        exported = load_exported(file)
        assert (exported.model, exported.classes, exported.category_ids) == (card.config.model, classes, (1, 5, 7))
        assert_same(model, exported)


@pytest.mark.slow
def test_an_archive_of_torch_export_predicts_the_same(tmp_path) -> None:
    name, file = "mask_rcnn", tmp_path / "model.pt2"
    model = trained(build_detector(f"{name}_lite0_drfpn", 3, **SMALL[name] | all_scores(name)), steps=25)
    card = make_card(f"{name}_lite0_drfpn", ("a", "b", "c"))
    to_pt2(model, file, export_metadata(model, card))
    exported = load_exported(file)
    assert (exported.model, exported.classes, exported.category_ids) == (card.config.model, ("a", "b", "c"), (1, 5, 7))
    assert_same(model, exported)


@pytest.mark.slow
def test_a_quantized_detector_has_weights_of_8_bits_and_its_metadata(tmp_path) -> None:
    pytest.importorskip("nncf")
    model = trained(build_detector("retinanet_lite0_fpn", 3, **SMALL["retinanet"]), steps=5)
    card = make_card("retinanet_lite0_fpn", ("a", "b", "c"), (1, 2, 3))
    full, small = tmp_path / "full.xml", tmp_path / "small.xml"
    to_openvino(model, full, export_metadata(model, card))
    quantize(full, small, (torch.randint(0, 256, (3, 97, 131), dtype=torch.uint8) for _ in range(4)))
    assert small.with_suffix(".bin").stat().st_size < full.with_suffix(".bin").stat().st_size / 2
    exported = load_exported(small)
    assert exported.classes == ("a", "b", "c")
    assert set(exported.detect([torch.zeros(3, 80, 120, dtype=torch.uint8)])[0]) == {"boxes", "scores", "labels"}
