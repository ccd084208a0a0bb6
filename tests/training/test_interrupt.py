"""Runs that are killed, stopped, locked out or left without room, each in a process of its own."""

import json
import multiprocessing
import os
import random
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from drfpn.data import ShapesDataset
from drfpn.training import Interrupted, RunConfig
from drfpn.training.checkpoint import load_state, save_state
from drfpn.training.trainer import fit
from drfpn.utils.errors import UserError

# a server that has imported everything once and forks in milliseconds
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["drfpn.training", "drfpn.data"])


def train_shapes(config: RunConfig, out: Path, images: int = 4) -> None:
    """Train in this process, from where ``out`` stands; exit codes as those of the command line."""
    torch.set_num_threads(1)
    data = ShapesDataset("train", images), ShapesDataset("val", 2)
    try:
        fit(config, *data, out, resume=(out / "state.pt").exists())
    except Interrupted as stop:
        os._exit(128 + stop.signal_number)
    except UserError as error:
        (out.parent / "error.txt").write_text(str(error))
        os._exit(1)


def start(config: RunConfig, out: Path, images: int = 4) -> multiprocessing.Process:
    process = context.Process(target=train_shapes, args=(config, out, images))
    process.start()
    return process


def written(out: Path) -> int:
    """Return when a state was written, 0 where none was."""
    return (out / "state.pt").stat().st_mtime_ns if (out / "state.pt").exists() else 0


def when(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited for nothing"
        time.sleep(0.005)


def assert_same(a: Path, b: Path) -> None:
    first, second = load_file(a / "last.safetensors"), load_file(b / "last.safetensors")
    assert all(torch.equal(first[name], second[name]) for name in first)
    for log in ("log.jsonl", "steps.jsonl"):
        rows = [[json.loads(line) for line in (run / log).read_text().splitlines()] for run in (a, b)]
        for row in (*rows[0], *rows[1]):
            row.pop("seconds", None)
        assert rows[0] == rows[1]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_killed_at_ten_random_moments_ends_as_one_that_was_not(workers, tmp_path, tiny_config) -> None:
    config = tiny_config("save_every=1", "log_every=1", "ema=0.9", f"workers={workers}", epochs=3)
    images = 60
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    chance, steps = random.Random(workers), []
    for kill in range(10):
        before = written(cut)
        process = start(config, cut, images)
        if kill % 2:  # some while it steps, evaluates or writes, others before
            when(lambda earlier=before: written(cut) != earlier)
        process.join(chance.uniform(0.0, 0.7))
        assert process.is_alive(), f"over after {kill} kills: {steps}"
        process.kill()
        process.join()
        steps.append(load_state(cut / "state.pt")["step"] if written(cut) else 0)
    assert len(set(steps)) > 3
    assert steps == sorted(steps)  # each start went on from the one before
    undisturbed = start(config, whole, images)
    last = start(config, cut, images)
    for process in (undisturbed, last):
        process.join(240)
        assert process.exitcode == 0
    assert_same(whole, cut)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_a_signal_saves_the_step_in_hand_and_a_second_one_stops_at_once(number, tmp_path, tiny_config) -> None:
    config = tiny_config("log_every=1", "workers=1", epochs=2)  # nothing is saved within an epoch unless asked
    out = tmp_path / "cut"
    process = start(config, out, 40)
    when(lambda: (out / "steps.jsonl").exists() and len((out / "steps.jsonl").read_text().splitlines()) >= 3)
    os.kill(process.pid, number)
    process.join(60)
    assert process.exitcode == 128 + number
    state, rows = load_state(out / "state.pt"), (out / "steps.jsonl").read_text().splitlines()
    assert state["step"] == len(rows) >= 3
    for run in (out, tmp_path / "whole"):
        process = start(config, run, 40)
        process.join(240)
        assert process.exitcode == 0
    assert_same(tmp_path / "whole", out)


@pytest.mark.slow
def test_a_second_run_in_one_folder_is_refused(tmp_path, tiny_config) -> None:
    config = tiny_config("log_every=1", epochs=1)
    first = start(config, tmp_path / "run", 800)
    when(lambda: (tmp_path / "run/steps.jsonl").exists())
    second = start(config, tmp_path / "run", 4)
    second.join(60)
    assert second.exitcode == 1
    assert "Another process is training in" in (tmp_path / "error.txt").read_text()
    assert first.is_alive()
    first.kill()
    first.join()


def train_with_little_room(config: RunConfig, out: Path, room: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))  # writing more fails as on a full disk
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    train_shapes(config, out)


@pytest.mark.slow
def test_a_full_disk_is_reported_and_the_last_good_state_stays(tmp_path, tiny_config) -> None:
    config = tiny_config("save_every=1", epochs=2)
    out = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("drfpn.training.setup.Run.stop_if", stop_after_first_step)
        with pytest.raises(Interrupted):
            fit(config, ShapesDataset("train", 4), ShapesDataset("val", 2), out)
    before = (out / "state.pt").read_bytes()
    process = context.Process(target=train_with_little_room, args=(config, out, 1_000_000))
    process.start()
    process.join(60)
    assert process.exitcode == 1
    assert "state.pt could not be written (File too large)" in (tmp_path / "error.txt").read_text()
    assert (out / "state.pt").read_bytes() == before
    assert not list(out.glob("*.part"))
    process = start(config, out)
    process.join(60)
    assert process.exitcode == 0


def stop_after_first_step(run, signal_number: int) -> None:
    if run.state.step == 1:
        run.save()
        raise Interrupted(signal.SIGTERM)


def test_a_state_is_the_old_one_until_the_new_one_is_whole(tmp_path, monkeypatch) -> None:
    file = tmp_path / "state.pt"
    save_state(file, {"step": 1})
    monkeypatch.setattr(os, "fsync", lambda number: pytest.fail("stopped here"))
    with pytest.raises(pytest.fail.Exception):
        save_state(file, {"step": 2})
    assert load_state(file) == {"step": 1}
    monkeypatch.undo()
    save_state(file, {"step": 2})
    assert load_state(file) == {"step": 2}


def test_a_signal_is_seen_at_the_end_of_its_step_also_between_readings(tmp_path, tiny_config, monkeypatch) -> None:
    """As on a GPU, where the losses of twenty steps are read together."""
    from importlib import import_module

    loop = import_module("drfpn.training.trainer")
    monkeypatch.setattr(loop, "loss_read_interval", lambda device: 20)
    train_step = loop.train_step

    def signal_in_the_third(run, batches):
        if run.state.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return train_step(run, batches)

    monkeypatch.setattr(loop, "train_step", signal_in_the_third)
    with pytest.raises(Interrupted):
        fit(tiny_config("log_every=1000"), ShapesDataset("train", 30), ShapesDataset("val", 2), tmp_path)
    assert load_state(tmp_path / "state.pt")["step"] == 3
