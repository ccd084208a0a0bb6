"""Invalid input: one sentence on stderr, exit code 1 or 2, no files written, no code run."""

import json
import pickle
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tests.cli.bad_input import COCO, TABLE, TRAIN_JSON, VAL_JSON, Bad, edit, hostile, without_masks


def assert_one_sentence(err: str) -> None:
    assert "Traceback" not in err
    message = [line for line in err.splitlines() if line.startswith("drfpn: ")]
    assert len(message) == 1, err
    assert message == err.splitlines()[-1:]


def files() -> set[Path]:
    return {file for file in Path().rglob("*") if file.name != ".lock"}  # of a run folder; every run leaves it


def by_name(rows: Sequence[Bad]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("bad", [pytest.param(row, id=row.name) for row in rows])


def test_the_names_of_the_table_are_unique() -> None:
    assert len({row.name for row in TABLE}) == len(TABLE) >= 40


@by_name(TABLE)
def test_bad_input_is_reported_in_one_sentence_and_leaves_no_files(drfpn, coco, request, bad) -> None:
    bad.make()
    before = files()
    trained = request.getfixturevalue("trained") / "run" if "{trained}" in bad.command else ""
    result = drfpn(*shlex.split(bad.command.format(trained=trained)))
    assert result.code == bad.code, result.err
    assert_one_sentence(result.err)
    assert bad.message in result.err
    assert files() == before


TRAINING_DATA = [row for row in TABLE if row.skipped is not None]


@by_name(TRAINING_DATA)
def test_bad_training_data_is_listed_by_check_and_left_out_with_a_message_or_refused_by_on_bad_skip(
    drfpn, coco, monkeypatch, bad
) -> None:
    monkeypatch.setattr("drfpn.training.workflow.write_run_report", lambda *args: None)  # slow
    bad.make()
    check = drfpn("data", "check", "coco", "--json")
    errors = [row["kind"] for row in json.loads(check.out)["findings"] if row["severity"] == "error"]
    assert bool(errors) == bool(check.code) == (bad.name != "no masks")  # without, the data is fit for boxes
    fewer = ("--max-train-images", 2) if bad.skipped else ()  # the fault is in the first
    result = drfpn(*shlex.split(bad.command), "--on-bad", "skip", *fewer)
    assert result.code == (0 if bad.skipped else 1), result.err
    if bad.skipped:
        assert bad.skipped in result.err
        assert len(Path("run/skipped.jsonl").read_text().splitlines()) == 1
    else:
        assert_one_sentence(result.err)
        assert not Path("run").exists()


@pytest.mark.parametrize("bare", [False, True])
def test_the_hostile_file_runs_code_when_it_is_unpickled(tmp_path, monkeypatch, bare) -> None:
    monkeypatch.chdir(tmp_path)
    hostile("evil.pt", bare=bare)()
    if bare:
        pickle.loads(Path("evil.pt").read_bytes())
    else:
        torch.load("evil.pt", weights_only=False)
    assert Path("executed").exists()


@pytest.mark.parametrize("args", [("trian",), ("train",), ("train", "x", "--data", "shapes", "--bogus")])
def test_a_call_that_cannot_be_parsed_exits_with_two(drfpn, args) -> None:
    assert drfpn(*args).code == 2


def test_masks_cannot_be_evaluated_on_data_without_masks(drfpn, coco) -> None:
    truth = json.loads(VAL_JSON.read_text())
    keys = ("image_id", "category_id", "bbox", "segmentation")
    rows = [{key: row[key] for key in keys} | {"score": 1.0} for row in truth["annotations"]]
    Path("results.json").write_text(json.dumps(rows))
    edit(without_masks, VAL_JSON)()
    result = drfpn("eval", "results.json", "--data", "coco")
    assert result.code == 1
    assert_one_sentence(result.err)
    assert "objects has a segmentation" in result.err


@pytest.mark.parametrize("segmentation", ["text", [[1, 2, 3]], {"size": [1, 1], "counts": [1]}])
def test_a_detector_of_boxes_ignores_bad_segmentations(drfpn, coco, monkeypatch, segmentation) -> None:
    monkeypatch.setattr("drfpn.training.workflow.write_run_report", lambda *args: None)
    for file in (TRAIN_JSON, VAL_JSON):
        edit(lambda record: record["annotations"][0].update(segmentation=segmentation), file)()
    result = drfpn(*shlex.split(COCO))
    assert result.code == 0, result.err
    check = drfpn("data", "check", "coco")
    assert check.code == 1
    assert "It would fail with masks." in check.out
