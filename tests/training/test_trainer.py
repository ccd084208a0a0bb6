import json
import logging
import signal
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from drfpn.data import ShapesDataset
from drfpn.training import Interrupted, trainer
from drfpn.training.checkpoint import Card, build, load_card, load_state
from drfpn.training.sampler import SeededSampler
from drfpn.training.setup import Run
from drfpn.training.trainer import fit
from drfpn.utils.errors import UserError

stop_if = Run.stop_if


class Squares(ShapesDataset):
    """Shapes in images of one size."""

    def __init__(self, length: int) -> None:
        super().__init__("train", length)

    def __getitem__(self, index: int):
        image, target = super().__getitem__(index)
        height, width = image.shape[-2:]
        scale = torch.tensor([96 / width, 96 / height] * 2)
        image = torch.nn.functional.interpolate(image[None].float(), size=(96, 96))[0].byte()
        return image, target | {"boxes": target["boxes"] * scale}


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
    metrics = fit(tiny_config(epochs=2), shapes("train", 4), shapes("val", 3), tmp_path)
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
        fit(config, shapes("train", 4), shapes("val", 2), tmp_path / name)
    assert_same_weights(tmp_path / "none", tmp_path / "two")


@pytest.mark.parametrize(
    "options", [(), ("ema=0.9", "grad_accum_steps=2", "optimizer=adamw", "workers=2")], ids=["sgd", "all"]
)
def test_a_run_stopped_after_every_step_ends_as_one_that_was_not(options, tmp_path, tiny_config, monkeypatch) -> None:
    """Within an epoch, between epochs and in the second one."""
    config = tiny_config("save_every=1", *options, epochs=2)
    fit(config, shapes("train", 4), shapes("val", 2), tmp_path / "whole")

    for at in (1, 2, 3):
        with monkeypatch.context() as patch:
            patch.setattr(Run, "stop_if", stop_after(at))
            with pytest.raises(Interrupted, match="SIGTERM"):
                fit(config, shapes("train", 4), shapes("val", 2), tmp_path / "cut", resume=at > 1)
        assert load_state(tmp_path / "cut/state.pt")["step"] == at
    fit(config, shapes("train", 4), shapes("val", 2), tmp_path / "cut", resume=True)
    assert_same_weights(tmp_path / "whole", tmp_path / "cut")
    for log in ("log.jsonl", "steps.jsonl"):
        assert without_time(tmp_path / "whole" / log) == without_time(tmp_path / "cut" / log)
    assert (tmp_path / "whole/metrics.json").read_text() == (tmp_path / "cut/metrics.json").read_text()


def stop_after(step: int) -> Callable[[Run, int], None]:
    return lambda run, number: stop_if(run, number or (signal.SIGTERM if run.state.step == step else 0))


def without_time(log: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def test_a_bad_image_does_not_cost_the_steps_before_it(tmp_path, quick_config, monkeypatch) -> None:
    config = quick_config(epochs=1)
    order = [index for index, _ in SeededSampler(4, config.seed)]
    draw = ShapesDataset.__getitem__

    def draw_but_one(self: ShapesDataset, index: int):
        if self.split == "train" and index == order[2]:
            raise UserError("photo.jpg cannot be decoded.")
        return draw(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(ShapesDataset, "__getitem__", draw_but_one)
        with pytest.raises(UserError, match="cannot be decoded"):
            fit(config, shapes("train", 4), shapes("val", 2), tmp_path / "cut")
    assert load_state(tmp_path / "cut/state.pt")["step"] == 1
    fit(config, shapes("train", 4), shapes("val", 2), tmp_path / "cut", resume=True)
    fit(config, shapes("train", 4), shapes("val", 2), tmp_path / "whole")
    assert_same_weights(tmp_path / "whole", tmp_path / "cut")


def test_the_average_of_the_weights_is_what_is_measured_and_kept(tmp_path, tiny_config) -> None:
    config = tiny_config("ema=0.5", "save_every=1", epochs=1)
    fit(config, shapes("train", 4), shapes("val", 2), tmp_path / "ema")
    fit(tiny_config(epochs=1), shapes("train", 4), shapes("val", 1), tmp_path / "plain")
    name = "roi_heads.box_predictor.cls_score.weight"
    torch.manual_seed(config.seed)
    start = build(Card(config=config, classes=ShapesDataset("val").classes, category_ids=range(1, 7)))
    start_state = start.state_dict()
    state = load_state(tmp_path / "ema/state.pt")
    last, average = state["model"][name], state["average"][f"module.{name}"]
    torch.testing.assert_close(weights(tmp_path / "plain")[name], last)
    torch.testing.assert_close(weights(tmp_path / "ema")[name], average)
    # the first update takes the weights as they are, the second keeps (1 + 2) / (10 + 2) = 0.25 < 0.5 of them
    assert not torch.equal(average, last)
    assert (average - last).norm() < (start_state[name] - last).norm()


def test_the_whole_batch_in_parts_gives_nearly_the_gradient_of_the_whole(tmp_path, tiny_config) -> None:
    rows = {}
    for parts in (1, 2):
        config = tiny_config(
            f"grad_accum_steps={parts}", "norm_eval=true", "log_every=1", epochs=1, model="retinanet_lite0_fpn"
        )
        fit(config, Squares(4), shapes("val", 2), tmp_path / str(parts))
        rows[parts] = without_time(tmp_path / str(parts) / "steps.jsonl")
    for whole, parts in zip(rows[1], rows[2], strict=True):  # RetinaNet's loss is a mean over images
        assert parts == pytest.approx(whole, rel=1e-4)


def test_a_run_without_progress_stops_early(tmp_path, quick_config) -> None:
    config = quick_config("patience=2", "base_lr=1e-12", epochs=9)
    fit(config, shapes("train", 2), shapes("val", 2), tmp_path)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 3
    fit(config, shapes("train", 2), shapes("val", 2), tmp_path, resume=True)  # has nothing left to do
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 3


def test_the_seconds_of_an_epoch_include_those_before_it_was_interrupted(tmp_path, tiny_config, monkeypatch) -> None:
    ticks = count()
    monkeypatch.setattr(trainer, "time", SimpleNamespace(monotonic=lambda: float(next(ticks))))
    config = tiny_config("save_every=1", "batch_size=1")

    def seconds(run: Path) -> float:
        return float(json.loads((run / "log.jsonl").read_text())["seconds"])

    fit(config, shapes("train", 4), shapes("val", 2), tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(Run, "stop_if", stop_after(2))
        with pytest.raises(Interrupted):
            fit(config, shapes("train", 4), shapes("val", 2), tmp_path / "cut")
    before = load_state(tmp_path / "cut/state.pt")["seconds"]
    assert before > 0
    fit(config, shapes("train", 4), shapes("val", 2), tmp_path / "cut", resume=True)
    assert seconds(tmp_path / "cut") > before
    # the clock advances by one with each reading, and each part of an epoch reads it a few times more
    assert seconds(tmp_path / "cut") == pytest.approx(seconds(tmp_path / "whole"), abs=3)


def test_detections_are_written_before_the_last_save_and_again_where_they_are_lost(
    tmp_path, tiny_config, monkeypatch
) -> None:
    saved_after: list[bool] = []

    def save(run: Run) -> None:
        saved_after.append((run.out / "detections.json").exists())
        run.state.save(run.out / "state.pt")

    monkeypatch.setattr(Run, "save", save)
    fit(tiny_config(), shapes("train", 2), shapes("val", 2), tmp_path)
    assert saved_after == [False, True]
    detections = (tmp_path / "detections.json").read_text()
    assert json.loads(detections)
    (tmp_path / "detections.json").unlink()
    fit(tiny_config(), shapes("train", 2), shapes("val", 2), tmp_path, resume=True)
    assert json.loads((tmp_path / "detections.json").read_text()) == json.loads(detections)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1


def test_an_epoch_that_is_logged_but_not_saved_is_logged_once_in_the_end(tmp_path, tiny_config, monkeypatch) -> None:
    def save_once(run: Run) -> None:
        if (run.out / "state.pt").exists():
            raise KeyboardInterrupt
        run.state.save(run.out / "state.pt")

    with monkeypatch.context() as patch:
        patch.setattr(Run, "save", save_once)
        with pytest.raises(KeyboardInterrupt):
            fit(tiny_config(), shapes("train", 2), shapes("val", 2), tmp_path)
    fit(tiny_config(), shapes("train", 2), shapes("val", 2), tmp_path, resume=True)
    assert [json.loads(line)["epoch"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [1]


@pytest.mark.parametrize(("images", "batch_size", "steps"), [(1, 2, 1), (3, 2, 2)])
def test_a_batch_may_be_larger_than_the_data_and_the_last_one_odd(
    images, batch_size, steps, tmp_path, tiny_config
) -> None:
    config = tiny_config(f"batch_size={batch_size}", model="retinanet_lite0_fpn")
    metrics = fit(config, shapes("train", images), shapes("val", 1), tmp_path)
    (row,) = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert row["step"] == steps
    assert metrics.images == 1


class Background(ShapesDataset):
    """Shapes without their annotations."""

    def __getitem__(self, index: int):
        image, target = super().__getitem__(index)
        return image, target | {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}

    def ground_truth(self):
        return {**super().ground_truth(), "annotations": []}


def test_training_images_without_any_object_are_refused_before_the_first_step(tmp_path, tiny_config) -> None:
    message = r"^None of the 3 images of 'train' of shapes has an object to train on"
    with pytest.raises(UserError, match=message):
        fit(tiny_config(), Background("train", 3), shapes("val", 2), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_validation_images_without_any_object_give_no_metric_and_no_best_epoch(tmp_path, tiny_config, caplog) -> None:
    caplog.set_level(logging.INFO, "drfpn")
    config = tiny_config("patience=1", epochs=2)
    metrics = fit(config, shapes("train", 2), Background("val", 2), tmp_path)
    assert set(metrics.box.values()) == {None}
    assert {value for of in metrics.per_class.values() for value in of.values()} == {None}
    assert json.loads((tmp_path / "metrics.json").read_text())["box"]["AP"] is None
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["AP"] for row in rows] == [None, None]  # without AP, patience has no meaning
    assert not (tmp_path / "best.safetensors").exists()
    assert load_card(tmp_path).metrics == {}
    assert any("None of the 2 images of 'val' has an object" in message for message in caplog.messages)
    assert any(message.endswith(" s, AP -, AP50 -") for message in caplog.messages)


@pytest.mark.parametrize("model", ["faster_rcnn_lite0_drfpn", "fcos_lite0_drfpn", "retinanet_lite0_drfpn"])
def test_deterministic_operators_suffice(model, tmp_path, tiny_config) -> None:
    width = "width=64" if "fcos" in model else "width=16"
    config = tiny_config("deterministic=true", width, model=model)
    fit(config, shapes("train", 2), shapes("val", 2), tmp_path)
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_batch_that_cannot_be_shared_equally_is_refused(tmp_path, tiny_config) -> None:
    with pytest.raises(UserError, match="batch_size is 2, expected a multiple of 3"):
        fit(tiny_config("grad_accum_steps=3"), shapes("train", 2), shapes("val", 2), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_images(tmp_path, tiny_config) -> None:
    config = tiny_config("base_lr=1e9", "warmup_steps=0", "clip_norm=null", epochs=20)
    with pytest.raises(UserError, match="not finite at step") as caught:
        fit(config, shapes("train", 4), shapes("val", 2), tmp_path)
    assert "shapes/train/" in str(caught.value)
    assert "loss_objectness" in str(caught.value)


def test_splits_of_other_classes_are_refused(tmp_path, tiny_config) -> None:
    other = shapes("val", 2)
    other.classes = ("cat",)
    with pytest.raises(UserError, match="classes of the two splits differ"):
        fit(tiny_config(), shapes("train", 2), other, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_detector_learns_two_images_by_heart(tmp_path, tiny_config) -> None:
    """Weak as a test of accuracy, strong as one of wiring: data, loss, anchors, pyramid, decoding and metric agree."""
    config = tiny_config(
        *("width=32", "min_size=96", "max_size=128", "hflip_prob=0", "eval_every=0"),
        *("optimizer=adamw", "base_lr=0.008", "warmup_steps=10"),
        epochs=60,
    )
    two = shapes("train", 2)
    metrics = fit(config, two, two, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < rows[0]["loss"] / 3
    assert metrics.box["AP50"] > 0.5
