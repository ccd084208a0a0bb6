"""Shards of ablations and predictions, and the options for Ray."""

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType

import pytest
from typer.main import get_command

from drfpn.cli.app import app
from drfpn.cli.hints import parameters_of
from drfpn.inference import PredictionSummary
from tests.cli.test_ablate import ABLATE, data, forked

__all__ = ["data", "forked"]


def test_a_shard_trains_every_nth_run_of_those_without_a_result(data, drfpn, monkeypatch) -> None:
    trained = []
    monkeypatch.setattr("drfpn.ablations.ablation.train_runs", lambda runs, *_, **__: trained.append(runs) or {})
    monkeypatch.setattr("drfpn.ablations.ablation.Ablation.measure", lambda *_, **__: None)
    for number in (1, 2, 3):
        done = drfpn(*ABLATE, "--seeds", "2", "--out", "out", "--shard", f"{number}/3")
        assert done.code == 0, done.err
        assert f"4 of them to be trained, {len(trained[-1])} by shard {number}/3" in done.err
    names = [[run.name for run in runs] for runs in trained]
    assert names == [["fpn-0", "drfpn-1"], ["drfpn-0"], ["fpn-1"]]


@pytest.mark.slow
def test_shards_of_an_ablation_have_the_results_of_one_process(data, drfpn, forked) -> None:
    out = data.parent / "two"
    assert drfpn(*ABLATE, "--out", "one").code == 0
    first = drfpn(*ABLATE, "--out", "two", "--turns", "1", "--shard", "2/2", "--json")
    assert first.code == 0, first.err
    table = json.loads(first.out)
    assert table["missing"] == 1
    assert [line["seeds"] for line in table["lines"]] == [[], [0]]
    assert all(line["cost"]["times"] is None for line in table["lines"])  # the last shard measures them
    last = drfpn(*ABLATE, "--out", "two", "--turns", "1", "--shard", "1/2", "--json")
    assert all(line["cost"]["times"] for line in json.loads(last.out)["lines"])
    one, two = ((data.parent / name / "results.jsonl").read_text().splitlines() for name in ("one", "two"))
    for a, b in zip(map(json.loads, one), map(json.loads, two), strict=True):
        assert a | {"seconds": 0} == b | {"seconds": 0}
    assert (out / "pyramids.md").is_file()


def test_a_wrong_shard_or_place_of_an_ablation_costs_nothing(data, drfpn) -> None:
    for options, message in (
        (["--shard", "0/4"], "drfpn: --shard must be K/N with K from 1 to N, not '0/4'; shards are numbered from 1."),
        (["--on", "rya"], "drfpn: --on must be 'local' or 'ray', not 'rya'. Did you mean 'ray'?"),
    ):
        done = drfpn(*ABLATE, *options)
        assert (done.code, done.err.strip()) == (2, message)
    assert {file.name for file in data.parent.iterdir()} == {"data"}


def test_shards_are_merged_by_the_last_one_or_by_a_command(drfpn, trained, coco) -> None:
    args = ("predict", trained / "run", coco / "val2017", "--score-threshold", 0.01)
    (coco / "val2017" / "000000000000.jpg").write_bytes(b"not a picture")
    whole = drfpn(*args, "--out", "one", "--json")
    first = drfpn(*args, "--out", "two", "--shard", "2/2")
    assert first.code == 0, first.err
    assert "shard 2/2: 3 pictures" in first.out
    assert "1 of 2 shards are not finished" in first.out
    early = drfpn("merge", "two")
    assert early.code == 1
    assert "drfpn: 1 of 2 shards of two are not finished: 1/2; run them first." in early.err
    last = drfpn(*args, "--out", "two", "--shard", "1/2")
    assert last.code == 1
    assert "1 of 2 files could not be read (" in last.err
    assert "shard 1/2: 1 pictures" in last.out
    assert "the results of all shards are in two" in last.out
    names = ("results.json", "results.csv", "images.json", "categories.json")
    assert [Path("two", name).read_bytes() for name in names] == [Path("one", name).read_bytes() for name in names]
    Path("two/results.json").unlink()
    merged = drfpn("merge", "two", "--json")
    assert "1 of 5 files could not be read (" in merged.err
    assert json.loads(merged.out) == json.loads(whole.out) | {"out": "two", "missing_shards": 0}
    assert Path("two/results.json").read_bytes() == Path("one/results.json").read_bytes()


def test_a_wrong_shard_or_place_costs_nothing(drfpn, trained, coco, monkeypatch) -> None:
    args = ("predict", trained / "run", coco / "val2017", "--out", "out")
    monkeypatch.setitem(sys.modules, "ray", None)
    for options, code, message in (
        (["--shard", "3/2"], 2, "drfpn: --shard must be K/N with K from 1 to N, not '3/2'."),
        (["--shard", "two"], 2, "drfpn: --shard must be K/N, such as 2/8 for the second of 8 shards, not 'two'."),
        (["--jobs", "2"], 2, "drfpn: --jobs is the number of parts on Ray: give --on ray too, or --shard."),
        (["--on", "ray"], 1, 'pip install "drfpn[ray]"'),
    ):
        done = drfpn(*args, *options)
        assert done.code == code
        assert message in done.err
        assert len(done.err.splitlines()) == 1
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    both = drfpn(*args, "--on", "ray", "--shard", "1/2")
    assert "--shard and --on ray cannot be combined" in both.err
    assert not Path("out").exists()


def test_every_option_reaches_the_shards_on_ray(drfpn, trained, coco, monkeypatch) -> None:
    """Each is given a value of its own; those that say where and how to run stay with the command."""
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    monkeypatch.setattr("drfpn.utils.ray_jobs.connect", nullcontext)
    started: list[list[str]] = []

    def record(arguments: list[str], files: int, *_: object, **__: object) -> PredictionSummary:
        started.append(arguments)
        return PredictionSummary(images=files)

    monkeypatch.setattr("drfpn.inference.ray_prediction.predict_on_ray", record)
    given = {
        "--score-threshold": 0.25,
        "--frame-stride": 3,
        "--compare": trained / "run",
        "--tile": 99,
        "--overlap": 0.5,
    }
    words = [word for pair in given.items() for word in pair] + ["--no-tile-full", "--device", "cpu"]
    inputs = [coco / "val2017", "coco/train*/*.png"]
    assert drfpn("predict", trained / "run", *inputs, "--out", "a b", "--on", "ray", *words).code == 0
    parameters = parameters_of(app, ["predict"])
    context = get_command(app).commands["predict"].make_context("predict", started[0][1:])
    values = context.params
    expected = {
        "run": trained / "run",
        "inputs": [str(path) for path in inputs],
        "out": Path("a b"),
        "score_threshold": 0.25,
    }
    expected |= {"frame_stride": 3, "compare": trained / "run", "tile": 99, "overlap": 0.5, "tile_full": False}
    assert values == expected | {"device": "cpu", "on": "local", "shard": None, "jobs": None, "json": False}
    assert values.keys() == parameters.keys() - {"help"}
