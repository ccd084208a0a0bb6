"""Reports from the command line."""

import json

import pytest

from tests.cli.conftest import TINY


def test_a_report_is_written_again_and_runs_are_compared(trained, drfpn, tmp_path) -> None:
    run = trained / "run"
    (run / "report.html").unlink()
    assert drfpn("report", run).code == 0
    text = (run / "report.html").read_text()
    assert "Images with the best F1" in text
    assert "4 images with" in text
    assert "million parameters" in text
    done = drfpn("report", run, run.parent / "run", "--out", "both.html")
    assert done.code == 2
    assert "give each once" in done.err
    assert not (tmp_path / "both.html").exists()


def test_the_best_and_the_worst_images_are_drawn_once_each(trained) -> None:
    examples = json.loads((trained / "run/metrics.json").read_text())["examples"]
    files = [example["file"] for example in examples]
    assert len(set(files)) == len(files) == 4
    assert {file.name for file in (trained / "run/pictures").iterdir()} == set(files)
    f1 = {kind: [e["f1"] for e in examples if e["kind"] == kind] for kind in ("best", "worst")}
    assert min(f1["best"]) >= max(f1["worst"])


@pytest.mark.slow
def test_two_runs_make_one_page(coco, drfpn, tmp_path) -> None:
    for neck in ("fpn", "drfpn"):
        train = ["train", f"faster_rcnn_lite0_{neck}", "--data", coco, "--epochs", "1", *TINY, "--out", neck]
        assert drfpn(*train).code == 0
    done = drfpn("report", "fpn", "drfpn", "--json")
    assert json.loads(done.out) == {"report": "runs.html"}
    page = (tmp_path / "runs.html").read_text()
    assert "<h1>fpn and drfpn</h1>" in page
    assert "faster_rcnn_lite0_drfpn" in page


def test_a_folder_that_is_no_run_is_named(drfpn, tmp_path, trained) -> None:
    (tmp_path / "empty").mkdir()
    for arguments in (["empty"], [trained / "run", "empty"], ["nowhere"]):
        done = drfpn("report", *arguments)
        assert done.code == 1
        assert "is not the folder of a finished run" in done.err
        assert "Traceback" not in done.err
