"""Training from the command line: several processes, stopping and resuming."""

import json
import signal
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch.testing import assert_close

from tests.processes import Command, count_lines, wait_until

TINY = [f"-o{s}" for s in ("width=16", "min_size=64", "max_size=96", "batch_size=2", "workers=0", "log_every=1")]
TINY += ["-oweights_backbone=null", "-onorm_eval=true", "-obase_lr=1e-4"]
TRAIN = ["train", "retinanet_test_efficientnet_fpn", "--data", "data", "--epochs", "1", *TINY]


def start(*arguments: str, folder: Path) -> Command:
    """Start the command line, whose further processes are forks too."""
    return Command(*arguments, folder=folder, forked=["drfpn.training.launch"])


@pytest.mark.slow
def test_two_processes_leave_the_run_that_one_does(coco, drfpn) -> None:
    folder = coco.parent
    coco.rename(folder / "data")
    assert drfpn(*TRAIN, "--out", "one").code == 0
    process = Command(*TRAIN, "--out", "two", "--nproc", "2", "--json", folder=folder)  # interpreters, as for a user
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert json.loads(out)["run"] == "two"
    assert err.count("epoch 1: loss") == 1  # only the first process speaks
    first, second = (load_file(folder / run / "last.safetensors") for run in ("one", "two"))
    for name, value in first.items():
        assert_close(second[name], value, rtol=1e-4, atol=1e-5)
    assert {file.name for file in (folder / "one").iterdir()} == {file.name for file in (folder / "two").iterdir()}


@pytest.mark.slow
def test_a_process_that_fails_ends_the_others_with_one_sentence(coco) -> None:
    folder = coco.parent
    coco.rename(folder / "data")
    for image in sorted((folder / "data/train2017").iterdir())[1:]:
        image.write_bytes(b"no image")
    process = start(*TRAIN, "--out", "run", "--nproc", "2", folder=folder)
    _, err = process.communicate()
    assert process.returncode == 1
    assert "cannot be decoded" in err
    assert "Traceback" not in err
    assert not (folder / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_stopped_run_says_how_to_go_on_and_does(processes, coco, drfpn) -> None:
    folder = coco.parent
    coco.rename(folder / "data")
    several = ["--nproc", str(processes)]
    process = start(*TRAIN, "--epochs", "50", "--out", "run", *several, folder=folder)
    steps = folder / "run/steps.jsonl"
    wait_until(lambda: count_lines(steps) > 2, process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert "to resume: drfpn train --resume --out run" in err
    assert "Traceback" not in err
    again = start("train", "--resume", "--out", "run", *several, folder=folder)
    done = count_lines(steps)
    wait_until(lambda: count_lines(steps) > done + 1, again)
    again.send_signal(signal.SIGTERM)
    assert "resuming after" in again.communicate()[1]
    rows = [json.loads(line)["step"] for line in steps.read_text().splitlines()]
    assert rows == list(range(1, len(rows) + 1))


def test_what_is_resumed_must_be_said(drfpn) -> None:
    assert "Give MODEL and --data" in drfpn("train", "--resume").err
    assert "Give MODEL and --data" in drfpn("train", "faster_rcnn_lite0_fpn").err
    result = drfpn("train", "--resume", "--out", "nothing")
    assert result.code == 1
    assert "no run to resume in nothing" in result.err
