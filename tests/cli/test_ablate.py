"""Ablations and benchmarks from the command line."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

TINY = [f"-o{s}" for s in ("width=16", "min_size=64", "max_size=96", "batch_size=2", "workers=0", "log_every=1")]
TINY += ["-oweights_backbone=null", "-onorm_eval=true", "-obase_lr=1e-4"]
ABLATE = ["ablate", "pyramids", "--data", "data", "--epochs", "1", "--rows", "drfpn", "--turns", "0", *TINY]


@pytest.fixture
def data(coco) -> Path:
    """A data set at ``data`` of the folder that commands run in."""
    return coco.rename(coco.parent / "data")


def start(*arguments: str, folder: Path) -> "subprocess.Popen[str]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": folder, "env": environment}
    return subprocess.Popen([sys.executable, "-m", "drfpn", *arguments], **both)


def wait_for_step(file: Path, step: int, process: "subprocess.Popen[str]") -> None:
    while not (file.exists() and len(file.read_text().splitlines()) >= step):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)


@pytest.mark.slow
def test_an_ablation_trains_its_rows_once_and_its_tables_are_written_from_the_results(data, drfpn) -> None:
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
        *("results.jsonl", "costs.json", "runs"),
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
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_ablation_leaves_no_process_and_is_resumed(number, data, drfpn) -> None:
    """If it is killed, Linux signals its runs."""
    if number == signal.SIGKILL and sys.platform != "linux":
        pytest.skip("only Linux signals the end of the parent")
    folder = data.parent
    longer = [*ABLATE, "--epochs", "6", "-oeval_every=0"]
    assert drfpn(*longer, "--out", "one").code == 0
    process = start(*longer, "--out", "two", folder=folder)
    wait_for_step(folder / "two/runs/drfpn-0/steps.jsonl", 3, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=100)
    assert process.returncode in (128 + number, -number)
    assert "Traceback" not in err
    deadline = time.monotonic() + 60
    while "stopped by SIGTERM" not in (folder / "two/runs/drfpn-0.log").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    done = drfpn(*longer, "--out", "two")
    assert done.code == 0, done.err
    assert "1 of them to be trained" in done.err
    assert "[drfpn-0] faster_rcnn_lite0_drfpn, resuming" in done.err
    for row in ("fpn-0", "drfpn-0"):
        first, second = (load_file(folder / f"{run}/runs/{row}/last.safetensors") for run in ("one", "two"))
        assert all(second[name].equal(value) for name, value in first.items())
    one, two = ((folder / run / "results.jsonl").read_text() for run in ("one", "two"))
    for a, b in zip(map(json.loads, one.splitlines()), map(json.loads, two.splitlines()), strict=True):
        assert a | {"seconds": 0} == b | {"seconds": 0}


@pytest.mark.slow
def test_a_failed_run_is_named_and_the_others_are_trained(data, drfpn) -> None:
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
def test_the_settings_of_a_run_make_the_same_run(data, drfpn) -> None:
    first = drfpn("train", "faster_rcnn_lite0_fpn", "--data", "data", "--epochs", "1", *TINY, "--out", "one", "--json")
    second = drfpn("train", "--config", "one/config.yaml", "--out", "two", "--json")
    one, two = json.loads(first.out), json.loads(second.out)
    assert one | {"run": ""} == two | {"run": ""}
    changed = drfpn("train", "--config", "one/config.yaml", "-oseed=1", "--out", "three", "--json")
    assert changed.code == 0
    assert "seed: 1" in (data.parent / "three/config.yaml").read_text()


@pytest.mark.slow
def test_bench_counts_the_paper_s_table_7(drfpn) -> None:
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
def test_bench_times_every_row_against_fpn(drfpn) -> None:
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
