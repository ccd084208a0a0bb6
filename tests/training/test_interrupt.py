"""Runs that are killed, stopped, locked out or left without room, each in a process of its own."""

import json
import os
import random
import resource
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from drfpn.data import ShapesDataset
from drfpn.training import Interrupted, RunConfig
from drfpn.training.checkpoint import load_state, save_state
from drfpn.training.interrupt import InterruptHandler
from drfpn.training.trainer import fit
from drfpn.utils.errors import UserError
from tests.processes import count_lines, forkserver, prepare_fork, wait_until


def train_shapes(config: RunConfig, out: Path, images: int = 4) -> None:
    """Train in this process, from where ``out`` stands; exit codes as those of the command line."""
    prepare_fork()
    data = ShapesDataset("train", images), ShapesDataset("val", 2)
    try:
        fit(config, *data, out, resume=(out / "state.pt").exists())
    except Interrupted as stop:
        os._exit(128 + stop.signal_number)
    except UserError as error:
        (out.parent / "error.txt").write_text(str(error))
        os._exit(1)


def start(config: RunConfig, out: Path, images: int = 4) -> BaseProcess:
    process = forkserver.Process(target=train_shapes, args=(config, out, images))
    process.start()
    return process


def written(out: Path) -> int:
    """Return when a state was written, 0 where none was."""
    return (out / "state.pt").stat().st_mtime_ns if (out / "state.pt").exists() else 0


def assert_same(a: Path, b: Path) -> None:
    first, second = load_file(a / "last.safetensors"), load_file(b / "last.safetensors")
    assert all(torch.equal(first[name], second[name]) for name in first)
    for log in ("log.jsonl", "steps.jsonl"):
        rows = [[json.loads(line) for line in (run / log).read_text().splitlines()] for run in (a, b)]
        for row in (*rows[0], *rows[1]):
            row.pop("seconds", None)
        assert rows[0] == rows[1]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_killed_at_random_moments_ends_as_one_that_was_not(workers, tmp_path, quick_config) -> None:
    config = quick_config("save_every=1", "log_every=1", "ema=0.9", f"workers={workers}", epochs=2)
    images = 16
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    chance, steps = random.Random(workers), []
    for kill in range(6):
        process = start(config, cut, images)
        if kill % 2:  # some while it steps, evaluates or writes, others before
            for _ in range(chance.randint(1, 2)):
                before = written(cut)
                wait_until(lambda earlier=before: written(cut) != earlier, process)
        time.sleep(chance.uniform(0.0, 0.05 if kill % 2 else 0.7))
        process.kill()
        process.join()
        steps.append(load_state(cut / "state.pt")["step"] if written(cut) else 0)
        if process.exitcode == 0:  # a fast machine
            break
    assert len(set(steps)) > 2
    assert steps == sorted(steps)  # each start went on from the one before
    for run in (whole, cut):
        process = start(config, run, images)
        process.join()
        assert process.exitcode == 0
    assert_same(whole, cut)


@pytest.mark.slow
def test_a_signal_saves_the_step_in_hand(tmp_path, quick_config) -> None:
    config = quick_config("log_every=1", "workers=1")  # nothing is saved within an epoch unless asked
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for number in (signal.SIGTERM, signal.SIGINT):
        done = count_lines(cut / "steps.jsonl")
        process = start(config, cut, 60)
        wait_until(lambda least=done + 2: count_lines(cut / "steps.jsonl") >= least, process)
        os.kill(process.pid, number)
        process.join()
        assert process.exitcode == 128 + number
        assert load_state(cut / "state.pt")["step"] == count_lines(cut / "steps.jsonl") >= done + 2
    for run in (cut, whole):
        process = start(config, run, 60)
        process.join()
        assert process.exitcode == 0
    assert_same(whole, cut)


def test_a_second_signal_stops_at_once() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started this in the background
    try:
        with InterruptHandler() as interrupt:
            os.kill(os.getpid(), signal.SIGINT)
            assert interrupt.signal_number == signal.SIGINT
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.slow
def test_a_second_run_in_one_folder_is_refused(tmp_path, quick_config) -> None:
    config = quick_config("log_every=1", epochs=1)
    first = start(config, tmp_path / "run", 10_000)
    wait_until((tmp_path / "run/steps.jsonl").exists, first)
    second = start(config, tmp_path / "run", 4)
    second.join()
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
def test_a_full_disk_is_reported_and_the_last_good_state_stays(tmp_path, quick_config) -> None:
    config = quick_config("save_every=1", epochs=2)
    out = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("drfpn.training.setup.Run.stop_if", stop_after_first_step)
        with pytest.raises(Interrupted):
            fit(config, ShapesDataset("train", 4), ShapesDataset("val", 2), out)
    before = (out / "state.pt").read_bytes()
    process = forkserver.Process(target=train_with_little_room, args=(config, out, 100_000))
    process.start()
    process.join()
    assert process.exitcode == 1
    assert "state.pt could not be written (File too large)" in (tmp_path / "error.txt").read_text()
    assert (out / "state.pt").read_bytes() == before
    assert not list(out.glob("*.part"))
    process = start(config, out)
    process.join()
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


def test_a_signal_is_seen_at_the_end_of_its_step_also_between_readings(tmp_path, quick_config, monkeypatch) -> None:
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
        fit(quick_config("log_every=1000"), ShapesDataset("train", 30), ShapesDataset("val", 2), tmp_path)
    assert load_state(tmp_path / "state.pt")["step"] == 3
