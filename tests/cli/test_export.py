import json
import shutil
import sys
from pathlib import Path

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


def test_gathers_are_for_onnx_and_the_page_alone(drfpn) -> None:
    result = drfpn("export", "run", "--format", "pt2", "--no-grid-sample")
    assert result.code == 2
    assert "--no-grid-sample is for --format onnx or web, not pt2" in result.err


def test_a_missing_package_is_told_with_what_to_install(drfpn, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    result = drfpn("export", "run", "--format", "onnx")
    assert result.code == 1
    assert 'pip install "drfpn[onnx]"' in result.err


def test_a_page_is_not_written_into_a_folder_of_other_files(drfpn, trained, tmp_path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("mine")
    result = drfpn("export", trained / "run", "--format", "web", "--out", "site")
    assert result.code == 1
    assert "site has files of something else; name a new folder for the page by --out." in result.err
    assert [file.name for file in (tmp_path / "site").iterdir()] == ["index.html"]


def test_a_run_becomes_a_page_beside_its_weights(drfpn, trained, monkeypatch) -> None:
    from drfpn.export import OutputDifferences

    monkeypatch.setattr("drfpn.export.web.to_onnx", lambda model, file, *_, **__: file.write_bytes(b""))
    monkeypatch.setattr("drfpn.export.load_exported", lambda file: None)
    differences = OutputDifferences(images=1, detections=1, matched=1, boxes=0, scores=0)
    monkeypatch.setattr("drfpn.export.compare_outputs", lambda *_: differences)
    shutil.copytree(trained / "run", "run")
    result = drfpn("export", "run", "--format", "web")
    assert result.code == 0, result.err
    folder = Path("run/web")
    assert "python -m http.server --directory run/web" in result.out
    assert (folder / "index.html").is_file()
    assert len(json.loads((folder / "detector.json").read_text())["classes"]) == 6
    assert json.loads((folder / "detector.onnx.parity.json").read_text())["format"] == "web"


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
