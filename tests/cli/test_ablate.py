"""Ablations and benchmarks from the command line."""

import json
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from drfpn.ablations import runtime
from drfpn.ablations.tables import Table
from drfpn.training.resolve import read_config
from tests.processes import Command, count_lines, fork_children, forkserver, wait_until

TINY = [f"-o{s}" for s in ("width=16", "min_size=64", "max_size=96", "batch_size=2", "workers=0", "log_every=1")]
TINY += ["-oweights_backbone=null", "-onorm_eval=true", "-obase_lr=1e-4"]
MODEL = "retinanet_test_efficientnet"
"""The smallest one."""
ABLATE = ["ablate", "pyramids", "--data", "data", "--epochs", "1", "--rows", "drfpn", "--turns", "0", *TINY]
ABLATE += ["--model", MODEL]


@pytest.fixture
def data(coco) -> Path:
    """A data set at ``data`` of the folder that commands run in."""
    return coco.rename(coco.parent / "data")


@pytest.fixture
def forked(monkeypatch) -> None:
    """Runs and measurements of memory are forks in place of new interpreters, which import for seconds."""
    fork_children(monkeypatch, "drfpn.ablations.runner")
    monkeypatch.setattr("drfpn.ablations.peak_memory.get_context", lambda method: forkserver)


@pytest.mark.slow
def test_an_ablation_trains_its_rows_once_and_its_tables_are_written_from_the_results(data, drfpn, forked) -> None:
    done = drfpn(*ABLATE, "--seeds", "2", "--turns", "1", "--out", "out", "--json")
    assert done.code == 0, done.err
    out = data.parent / "out"
    table = json.loads(done.out)
    assert table["missing"] == 0
    assert [(line["key"], line["seeds"]) for line in table["lines"]] == [("fpn", [0, 1]), ("drfpn", [0, 1])]
    for line in table["lines"]:
        aps = [json.loads((out / f"runs/{line['key']}-{s}/metrics.json").read_text())["box"]["AP"] for s in (0, 1)]
        assert line["numbers"]["AP"]["mean"] == pytest.approx(100 * sum(aps) / 2)
        assert line["cost"]["times"]["training"]["median"] > 0
    assert table["lines"][1]["difference"]["seeds"] == 2
    assert {f.name for f in out.iterdir()} == {
        *("results.jsonl", ".results.lock", "costs.json", "runs"),
        *(f"pyramids.{ending}" for ending in ("json", "md", "csv", "png")),
    }
    assert str(data.parent) not in (out / "results.jsonl").read_text()

    shutil.rmtree(out / "runs")  # results.jsonl is enough
    again = drfpn(*ABLATE, "--seeds", "2", "--turns", "1", "--out", "out", "--json")
    assert json.loads(again.out) == table
    assert "4 runs in out, 0 of them to be trained" in again.err
    assert not (out / "runs").exists()

    counts = [{**line["cost"], "times": None, "memory": None} for line in table["lines"]]
    (out / "costs.json").unlink()  # without costs.json, --draw counts again and does not time
    drawn = drfpn(*ABLATE, "--seeds", "2", "--draw", "--out", "out", "--json")
    assert [line["cost"] for line in json.loads(drawn.out)["lines"]] == counts

    later = json.loads(drfpn(*ABLATE, "--first-seed", "1", "--seeds", "2", "--draw", "--out", "out", "--json").out)
    assert later["missing"] == 2
    assert [line["seeds"] for line in later["lines"]] == [[1], [1]]

    other = drfpn(*ABLATE, "-ohflip_prob=0", "--out", "out")
    assert other.code == 1
    assert "'fpn', seed 0, trained with hflip_prob=0.5, not 0.0: choose another --out" in other.err
    assert "Traceback" not in other.err


@pytest.mark.slow
def test_an_interrupted_ablation_leaves_no_process_and_is_resumed(data, drfpn, forked) -> None:
    """If it is killed, Linux signals its runs, which are interpreters of their own here."""
    folder = data.parent
    longer = [*ABLATE, "--epochs", "6", "-oeval_every=0"]
    one, two = folder / "one", folder / "two"
    assert drfpn(*longer, "--out", "one").code == 0
    results = (one / "results.jsonl").read_text().splitlines(keepends=True)
    two.mkdir()
    (two / "results.jsonl").write_text("".join(line for line in results if json.loads(line)["row"] == "fpn"))
    numbers = [signal.SIGTERM, signal.SIGKILL] if sys.platform == "linux" else [signal.SIGTERM]
    run, log = two / "runs/drfpn-0", two / "runs/drfpn-0.log"
    for done, number in enumerate(numbers):
        earlier = count_lines(run / "steps.jsonl")
        process = Command(*longer, "--out", "two", folder=folder)
        wait_until(lambda earlier=earlier: count_lines(run / "steps.jsonl") > earlier, process)
        process.send_signal(number)
        _, err = process.communicate()
        assert process.returncode in (128 + number, -number)
        assert "Traceback" not in err
        while log.read_text().count("stopped by SIGTERM") <= done:
            assert not (run / "metrics.json").exists(), "the run ended before the signal"
            time.sleep(0.05)
    last = drfpn(*longer, "--out", "two")
    assert last.code == 0, last.err
    assert "1 of them to be trained" in last.err
    assert f"[drfpn-0] {MODEL}_drfpn, resuming" in last.err
    first, second = (load_file(run / "runs/drfpn-0/last.safetensors") for run in (one, two))
    assert all(second[name].equal(value) for name, value in first.items())
    again = (two / "results.jsonl").read_text().splitlines()
    for a, b in zip(map(json.loads, results), map(json.loads, again), strict=True):
        assert a | {"seconds": 0} == b | {"seconds": 0}


@pytest.mark.slow
def test_a_failed_run_is_named_and_the_others_are_trained(data, drfpn, forked) -> None:
    broken = data.parent / "out/runs/fpn-0"
    broken.mkdir(parents=True)
    (broken / "state.pt").write_bytes(b"no state")
    (broken / "config.yaml").write_text("model: nothing\n")
    done = drfpn(*ABLATE, "--out", "out", "--json")
    assert done.code == 1
    assert "drfpn: 1 of 2 runs failed; fpn-0: " in done.err
    assert "Traceback" not in done.err
    lines = json.loads(done.out)["lines"]
    assert [line["seeds"] for line in lines] == [[], [0]]
    assert lines[1]["difference"] is None


def test_tables_and_rows_are_listed_without_data(drfpn) -> None:
    listed = drfpn("ablate")
    assert listed.code == 0
    assert all(name in listed.out for name in ("table2", "table7", "pyramids"))
    rows = json.loads(drfpn("ablate", "3", "--list", "--json").out)["rows"]
    assert len(rows) == 10
    assert rows[6]["options"] == {"top_down": "crb", "bottom_up": "srb", "context": None}
    assert "TD[CRB] + BU[SRB]" in drfpn("ablate", "table3", "--list").out


def test_finished_runs_are_listed_without_training(data, drfpn) -> None:
    listed = drfpn(*ABLATE, "--seeds", "3", "--list", "--json")
    assert json.loads(listed.out)["missing"] == 6
    assert not (data.parent / "runs").exists()


def test_errors_are_one_sentence(data, drfpn) -> None:
    for arguments, message in (
        (["ablate", "tabel2"], "There is no table 'tabel2'"),
        (["ablate", "table2"], "Give a data set to train on: --data."),
        (["ablate", "table2", "--data", "data", "--rows", "srbb"], "has no row 'srbb'"),
        (["ablate", "table2", "--data", "data", "--model", "faster_rcnn"], "Unknown model 'faster_rcnn_fpn'"),
        (["ablate", "table2", "--data", "data", "-oepoch=1"], "Unknown setting 'epoch'"),
        (["ablate", "table2", "--data", "data", "--scale", "tiny"], "scale must be one of"),
        (["ablate", "table2", "--data", "nowhere"], "nowhere"),
        (["bench", "table8"], "There is no table 'table8'"),
        (["bench", "--size", "800"], "--size must be HEIGHTxWIDTH"),
        (["train", "--config", "nowhere.yaml"], "nowhere.yaml cannot be read"),
        (["train", "faster_rcnn_lite0_fpn", "--config", "c.yaml"], "so MODEL cannot be given as well"),
        (["train", "--config", "c.yaml", "--max-train-images", "3"], "so --max-train-images cannot be given as well"),
    ):
        done = drfpn(*arguments)
        assert done.code in (1, 2), arguments
        assert message in done.err, (arguments, done.err)
        assert "Traceback" not in done.err
    assert {file.name for file in data.parent.iterdir()} == {"data"}


@pytest.mark.slow
def test_the_settings_of_a_run_make_the_same_run(trained, drfpn, tmp_path) -> None:
    config = trained / "run/config.yaml"
    assert drfpn("train", "--config", config, "--out", "again").code == 0
    first, second = (load_file(run / "last.safetensors") for run in (trained / "run", tmp_path / "again"))
    assert all(second[name].equal(value) for name, value in first.items())
    one, two = (json.loads((run / "metrics.json").read_text()) for run in (trained / "run", tmp_path / "again"))
    assert one["box"] == two["box"]


def test_single_settings_of_a_run_may_be_changed(trained, drfpn, tmp_path, monkeypatch) -> None:
    started = []
    monkeypatch.setattr("drfpn.cli.train.run", lambda config, *_, **__: started.append(config) or sys.exit(0))
    drfpn("train", "--config", trained / "run/config.yaml", "-oseed=1", "--out", "other")
    assert started[0].seed == 1
    assert list(started[0].changed(read_config(trained / "run/config.yaml"))) == ["seed"]


@pytest.mark.slow
def test_bench_counts_the_paper_s_table_7(drfpn, monkeypatch) -> None:
    measured: dict[str, list[runtime.RowCost]] = {}
    measure = runtime.measure_table

    def measure_once(table: Table, **options: Any) -> list[runtime.RowCost]:
        if table.title not in measured:
            measured[table.title] = measure(table, **options)
        return measured[table.title]

    monkeypatch.setattr(runtime, "measure_table", measure_once)
    done = drfpn("bench", "table7", "--turns", "0", "--json")
    rows = json.loads(done.out)["rows"]
    for row in rows:
        params = round(row["cost"]["params"] / 1e6, 2)
        assert params == row["paper"]["params"] or row["key"] == "non-local"
        assert int(row["cost"]["published_macs"] / 1e9) == row["paper"]["gflops"]
    text = drfpn("bench", "table7", "--turns", "0").out
    assert "DenseASPP" in text
    assert "60.05" in text
    other = drfpn("bench", "table3", "--rows", "pafpn,td-crb-bu-srb", "--turns", "0")
    assert [line.split("  ")[0] for line in other.out.splitlines()[3:6]] == ["TD", "TD + BU", "TD[CRB] + BU[SRB]"]
    assert "paper" not in other.out  # which has no values for these rows
    assert "47.79" in other.out


@pytest.mark.slow
def test_bench_times_every_row_against_fpn(drfpn, forked) -> None:
    done = drfpn(
        *("bench", "--model", "faster_rcnn_r18", "--size", "64x96", "--turns", "1", "--rows", "drfpn", "--json")
    )
    rows = json.loads(done.out)["rows"]
    assert rows[0]["cost"]["times"]["training"]["median"] == 1
    assert all(row["cost"]["times"]["inference"]["seconds"] > 0 for row in rows)
    assert all(row["cost"]["times"]["neck"]["seconds"] > 0 for row in rows)
    assert all(row["cost"]["memory"]["inference"] > 0 for row in rows)


@pytest.mark.slow
def test_bench_compares_the_baselines_without_the_columns_of_the_paper(drfpn) -> None:
    text = drfpn("bench", "baselines", "--rows", "carafe", "--turns", "0").out
    assert "41.75" in text
    assert "paper" not in text
