import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from drfpn.data import ShapesDataset
from drfpn.engine import train
from drfpn.errors import UserError


def shapes(split: str, length: int) -> ShapesDataset:
    return ShapesDataset(split, length)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "last.safetensors")


def assert_same_weights(a: Path, b: Path) -> None:
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def test_a_run_leaves_what_it_promises(tmp_path, tiny_config) -> None:
    metrics = train(tiny_config(epochs=2), shapes("train", 4), shapes("val", 3), tmp_path)
    names = {file.name for file in tmp_path.iterdir()}
    assert {"config.yaml", "log.jsonl", "metrics.json", "last.safetensors", "state.pt"} <= names
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert {"loss", "loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg", "lr", "AP"} <= rows[
        0
    ].keys()
    assert json.loads((tmp_path / "metrics.json").read_text())["box"] == metrics.box
    assert metrics.images == 3


def test_the_same_seed_gives_the_same_model_with_any_number_of_workers(tmp_path, tiny_config) -> None:
    for name, workers in (("none", 0), ("two", 2)):
        config = tiny_config(f"workers={workers}", epochs=2)
        train(config, shapes("train", 4), shapes("val", 2), tmp_path / name)
    assert_same_weights(tmp_path / "none", tmp_path / "two")


def test_a_run_stopped_between_epochs_ends_as_one_that_was_not(tmp_path, tiny_config, monkeypatch) -> None:
    config = tiny_config(epochs=2)
    train(config, shapes("train", 4), shapes("val", 2), tmp_path / "whole")

    from drfpn.engine import train as module
    from drfpn.engine.train import train_one_epoch

    def stop_in_second(*args, first_step: int, **kwargs):
        if first_step > 0:
            raise KeyboardInterrupt
        return train_one_epoch(*args, first_step=first_step, **kwargs)

    with monkeypatch.context() as patch:
        patch.setitem(module.__globals__, "train_one_epoch", stop_in_second)
        with pytest.raises(KeyboardInterrupt):
            train(config, shapes("train", 4), shapes("val", 2), tmp_path / "cut")
    train(config, shapes("train", 4), shapes("val", 2), tmp_path / "cut", resume=True)
    assert_same_weights(tmp_path / "whole", tmp_path / "cut")
    rows = [json.loads(line)["epoch"] for line in (tmp_path / "cut/log.jsonl").read_text().splitlines()]
    assert rows == [1, 2]


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_images(tmp_path, tiny_config) -> None:
    config = tiny_config("lr_per_16=1e9", "warmup_steps=0", "clip_norm=null", epochs=20)
    with pytest.raises(UserError, match="not finite at step") as caught:
        train(config, shapes("train", 4), shapes("val", 2), tmp_path)
    assert "shapes/train/" in str(caught.value)
    assert "loss_objectness" in str(caught.value)


def test_splits_of_other_classes_are_refused(tmp_path, tiny_config) -> None:
    other = shapes("val", 2)
    other.classes = ("cat",)
    with pytest.raises(UserError, match="classes of the two splits differ"):
        train(tiny_config(), shapes("train", 2), other, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_detector_learns_four_images_by_heart(tmp_path, tiny_config) -> None:
    """Weak as a test of accuracy, strong as one of wiring: data, loss, anchors, pyramid, decoding and metric agree."""
    config = tiny_config(
        *("width=32", "min_size=160", "max_size=224", "batch_size=4", "flip=0", "eval_every=0"),
        *("optimizer=adamw", "lr_per_16=0.008", "warmup_steps=10"),
        epochs=80,
    )
    four = shapes("train", 4)
    metrics = train(config, four, four, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < rows[0]["loss"] / 3
    assert metrics.box["AP50"] > 0.5
