"""What holds for whole detectors as files of other runtimes."""

import pytest
import torch

from drfpn import build_detector
from drfpn.detectors import DETECTORS
from drfpn.export import (
    Exported,
    load_exported,
    measure_parity,
    metadata_of,
    quantize,
    to_archive,
    to_onnx,
    to_openvino,
)
from drfpn.export.openvino import convert
from drfpn.training import Card, resolve
from tests.detectors.scenes import SMALL, all_scores, trained

SIZES = ((64, 64), (97, 131), (33, 500), (240, 271))
"""None of them that of the image that is traced."""


def make_card(model: str, classes: tuple[str, ...], category_ids: tuple[int, ...] = (1, 5, 7)) -> Card:
    return Card(config=resolve(model, "shapes"), classes=classes, category_ids=category_ids, versions={})


def assert_same(model, exported: Exported) -> None:
    """Boxes within 1e-2 px and scores within 1e-4; where scores are nearly equal, another box may have survived."""
    torch.manual_seed(0)
    images = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in SIZES]
    parity = measure_parity(model, exported, images)
    assert parity.detections >= 20
    assert parity.matched >= 0.95 * parity.detections
    assert parity.boxes < 1e-2
    assert parity.scores < 1e-4
    assert (parity.masks is not None) == exported.masks
    assert (parity.masks or 0) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_finds_the_same_in_both_runtimes(name, tmp_path) -> None:
    for package in ("onnxruntime", "onnxscript", "openvino"):
        pytest.importorskip(package)
    classes = ("disc", "ring", "star")
    model = trained(build_detector(f"{name}_lite0_drfpn", 3, **SMALL[name] | all_scores(name)), steps=25)
    card = make_card(f"{name}_lite0_drfpn", classes)
    files = [tmp_path / "model.onnx", tmp_path / "model.xml"]
    to_onnx(model, files[0], metadata_of(model, card), optimize=False)
    convert(files[0], files[1], metadata_of(model, card))
    for file in files:
        exported = load_exported(file)
        assert (exported.model, exported.classes, exported.category_ids) == (card.config.model, classes, (1, 5, 7))
        assert_same(model, exported)


@pytest.mark.slow
def test_an_archive_of_torch_finds_the_same(tmp_path) -> None:
    name, file = "mask_rcnn", tmp_path / "model.pt2"
    model = trained(build_detector(f"{name}_lite0_drfpn", 3, **SMALL[name] | all_scores(name)), steps=25)
    card = make_card(f"{name}_lite0_drfpn", ("a", "b", "c"))
    to_archive(model, file, metadata_of(model, card))
    exported = load_exported(file)
    assert (exported.model, exported.classes, exported.category_ids) == (card.config.model, ("a", "b", "c"), (1, 5, 7))
    assert_same(model, exported)


@pytest.mark.slow
def test_a_quantized_detector_computes_in_8_bits_and_keeps_what_travels_with_it(tmp_path) -> None:
    pytest.importorskip("nncf")
    model = trained(build_detector("retinanet_lite0_fpn", 3, **SMALL["retinanet"]), steps=5)
    card = make_card("retinanet_lite0_fpn", ("a", "b", "c"), (1, 2, 3))
    full, small = tmp_path / "full.xml", tmp_path / "small.xml"
    to_openvino(model, full, metadata_of(model, card))
    quantize(full, small, (torch.randint(0, 256, (3, 97, 131), dtype=torch.uint8) for _ in range(4)))
    assert small.with_suffix(".bin").stat().st_size < full.with_suffix(".bin").stat().st_size / 2
    exported = load_exported(small)
    assert exported.classes == ("a", "b", "c")
    assert set(exported.detect([torch.zeros(3, 80, 120, dtype=torch.uint8)])[0]) == {"boxes", "scores", "labels"}
