import json
import sys

import pytest


def test_an_unknown_format_is_told_with_the_nearest(drfpn) -> None:
    result = drfpn("export", "run", "--format", "onx")
    assert result.code == 2
    assert "Did you mean 'onnx'?" in result.err


def test_a_file_that_does_not_end_as_its_format_does_is_refused(drfpn) -> None:
    result = drfpn("export", "run", "--format", "openvino", "--out", "a.onnx")
    assert result.code == 2
    assert "must end in .xml" in result.err


def test_8_bits_want_openvino_and_images(drfpn) -> None:
    for options in (["--format", "onnx", "--data", "shapes"], ["--format", "openvino"]):
        result = drfpn("export", "run", "--int8", *options)
        assert result.code == 2
        assert "--data" in result.err


def test_gathers_are_for_onnx_alone(drfpn) -> None:
    result = drfpn("export", "run", "--format", "pt2", "--no-grid-sample")
    assert result.code == 2
    assert "--no-grid-sample is for --format onnx, not pt2" in result.err


def test_a_missing_package_is_told_with_what_to_install(drfpn, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    result = drfpn("export", "run", "--format", "onnx")
    assert result.code == 1
    assert 'pip install "drfpn[onnx]"' in result.err


@pytest.mark.slow
def test_a_run_becomes_a_file_that_measures_and_predicts_as_it_does(drfpn, trained, tmp_path) -> None:
    data, file = trained / "coco", tmp_path / "small.pt2"
    result = drfpn("export", trained / "run", "--format", "pt2", "--data", data, "--out", file)
    assert result.code == 0
    report = json.loads((tmp_path / "small.pt2.parity.json").read_text())
    eager, exported = report["ap"]["AP"]
    assert eager == pytest.approx(exported, abs=1e-4)
    measured = json.loads(drfpn("eval", file, "--data", data, "--json").out)
    assert measured["box"]["AP"] == pytest.approx(exported, abs=1e-6)
    image = next((data / "val2017").iterdir())
    rows = []
    for detector, out in ((trained / "run", tmp_path / "eager"), (file, tmp_path / "exported")):
        assert drfpn("predict", detector, image, "--out", out).code == 0
        rows.append(json.loads((out / "results.json").read_text()))
    best = max(rows[0], key=lambda row: row["score"])
    assert any(
        row["bbox"] == pytest.approx(best["bbox"], abs=0.02) and row["score"] == pytest.approx(best["score"], abs=1e-4)
        for row in rows[1]
    )
