"""Data sets in YOLO's format, and writing them in others."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import TINY

TRAIN = ("train", "faster_rcnn_lite0_drfpn", "--epochs", 1, *TINY)


@pytest.fixture
def yolo(drfpn, coco) -> Path:
    result = drfpn("data", "convert", coco, "--to", "yolo", "--out", "set", "--no-masks")
    assert result.code == 0, result.err
    return Path("set/data.yaml")


def test_a_yaml_file_is_trained_on_and_measured(drfpn, yolo) -> None:
    trained = drfpn(*TRAIN, "--data", yolo, "--max-train-images", 2, "--json")
    assert trained.code == 0, trained.err
    assert "2 images, evaluated on 4" in trained.err
    output = json.loads(trained.out)
    assert (
        output["run"] == "runs/faster_rcnn_lite0_drfpn-set-1"
    )  # the folder, since every such file is called data.yaml
    measured = drfpn("eval", output["run"], "--data", "set", "--json")
    assert measured.code == 0, measured.err
    assert json.loads(measured.out)["box"] == pytest.approx(output["box"], abs=1e-6)


def test_a_mask_detector_is_trained_on_polygons(drfpn, coco) -> None:
    assert drfpn("data", "convert", coco, "--to", "yolo", "--out", "set").code == 0
    result = drfpn(
        "train", "mask_rcnn_lite0_drfpn", "--data", "set", "--epochs", 1, *TINY, "--max-train-images", 2, "--out", "run"
    )
    assert result.code == 0, result.err


def test_detections_count_the_same_in_both_formats(drfpn, coco, yolo) -> None:
    rows = json.loads((coco / "annotations/instances_val2017.json").read_text())["annotations"]
    results = [{key: row[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.5} for row in rows]
    Path("coco.json").write_text(json.dumps(results))
    # The ids of the fixture's classes are 7 times those that YOLO's have.
    Path("yolo.json").write_text(json.dumps([row | {"category_id": row["category_id"] // 7} for row in results]))
    scores = [
        json.loads(drfpn("eval", file, "--data", data, "--json").out)["box"]["AP"]
        for file, data in (("coco.json", coco), ("yolo.json", yolo))
    ]
    assert scores == [pytest.approx(1), pytest.approx(1)]


def test_check_stats_and_show_take_a_yaml_file(drfpn, yolo, coco) -> None:
    assert drfpn("data", "check", yolo).code == 0
    ours, theirs = (json.loads(drfpn("data", "stats", data, "--json").out) for data in (yolo, coco))
    assert ours["objects_per_class"] == theirs["objects_per_class"]
    assert drfpn("data", "show", yolo, "--out", "batch.png", "--images", 2).code == 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.5", "line 1: it has 4 words"),
        ("9 0.5 0.5 0.5 0.5", "line 1: its class id is 9"),
        ("0 120 80 20 20", "line 1: its coordinate 1 is 120"),
        ("0 nan 0.5 0.1 0.1", "line 1: its word 2 is 'nan'"),
    ],
)
def test_a_bad_line_stops_training_with_one_sentence_and_is_listed_by_check(drfpn, yolo, line, message) -> None:
    label = next(Path("set/labels/train").iterdir())
    label.write_text(line)
    result = drfpn(*TRAIN, "--data", yolo, "--out", "run")
    assert result.code == 1
    assert result.err.splitlines()[-1].startswith(f"drfpn: {label}: {message}")
    assert "Traceback" not in result.err
    assert not Path("run").exists()
    check = drfpn("data", "check", yolo, "--json")
    assert check.code == 1
    examples = [example for finding in json.loads(check.out)["findings"] for example in finding["examples"]]
    assert any(message in example for example in examples)


def test_convert_says_what_it_wrote_and_what_was_lost(drfpn, coco) -> None:
    printed = drfpn("data", "convert", coco, "--to", "voc", "--out", "voc").out.splitlines()
    assert printed[0].startswith("voc (voc): train 4 images with ")
    assert all(line.startswith("- ") for line in printed[1:])
    assert any("segmentations left out" in line for line in printed)
    output = json.loads(drfpn("data", "convert", "voc", "--to", "coco", "--out", "back", "--json").out)
    assert output.keys() == {"out", "format", "images", "objects", "lost"}
    assert output["images"] == {"train": 4, "val": 4}
    assert drfpn("data", "check", "back").code == 0
    again = drfpn("data", "convert", "voc", "--to", "coco", "--out", "back")
    assert again.code == 1
    assert "back exists and is not an empty folder" in again.err
