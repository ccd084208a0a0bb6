import sys
from pathlib import Path

import pytest
import torch

from drfpn.export import compare_outputs, load_exported, smooth_test_images
from drfpn.inference import load_predictor
from drfpn.utils.errors import UserError


class ConstantDetector:
    """A detector with the same output for every image."""

    def __init__(self, boxes, labels, scores) -> None:
        self.output = {"boxes": torch.tensor(boxes), "labels": torch.tensor(labels), "scores": torch.tensor(scores)}

    def detect(self, images):
        return [self.output for _ in images]


def test_differences_are_maxima_over_matched_detections() -> None:
    original = ConstantDetector([[0.0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60]], [1, 2, 1], [0.9, 0.8, 0.7])
    exported = ConstantDetector([[20.0, 20, 30, 30.25], [0, 0, 10, 10], [50, 50, 60, 60]], [2, 1, 2], [0.75, 0.9, 0.7])
    differences = compare_outputs(original, exported, smooth_test_images()[:2])
    assert (differences.images, differences.detections) == (2, 6)
    assert differences.matched == 4  # the third is of another class
    assert differences.boxes == pytest.approx(0.25)
    assert differences.scores == pytest.approx(0.05)
    assert differences.masks is None


def test_a_detection_that_is_missing_is_not_matched() -> None:
    original = ConstantDetector([[0.0, 0, 10, 10]], [1], [0.9])
    exported = ConstantDetector([[0.0, 0, 10, 12]], [1], [0.9])
    assert compare_outputs(original, exported, smooth_test_images()[:1]).matched == 0


@pytest.mark.parametrize(
    ("suffix", "package", "extra"), [(".onnx", "onnxruntime", "onnx"), (".xml", "openvino", "openvino")]
)
def test_the_error_of_a_missing_runtime_names_what_to_install(tmp_path, monkeypatch, suffix, package, extra) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    file = tmp_path / f"a{suffix}"
    file.touch()
    with pytest.raises(UserError, match=rf'{package}.*pip install "drfpn\[{extra}\]"'):
        load_predictor(file)


@pytest.mark.parametrize(
    ("suffix", "package"), [(".onnx", "onnxruntime"), (".xml", "openvino"), (".pt2", "torch.export")]
)
def test_a_file_that_is_not_a_model_is_refused(tmp_path, suffix, package) -> None:
    pytest.importorskip(package)
    file = tmp_path / f"a{suffix}"
    file.write_text("not a model")
    with pytest.raises(UserError, match=f"a{suffix} cannot be read"):
        load_exported(file)


def test_the_error_of_a_missing_file_names_it() -> None:
    with pytest.raises(UserError, match=r"no exported detector nowhere\.onnx"):
        load_exported(Path("nowhere.onnx"))


def test_an_onnx_file_of_another_tool_is_refused(tmp_path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("image", "boxes")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["image"], ["boxes"])], "g", values[:1], values[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(UserError, match="not exported by drfpn"):
        load_exported(tmp_path / "a.onnx")


def test_an_archive_of_another_tool_is_refused(tmp_path) -> None:
    file = tmp_path / "a.pt2"
    torch.export.save(torch.export.export(torch.nn.Linear(2, 2), (torch.ones(2),)), file)
    with pytest.raises(UserError, match="not exported by drfpn"):
        load_exported(file)
