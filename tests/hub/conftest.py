import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from drfpn.training import RunConfig, resolve
from drfpn.training.checkpoint import Card, build, save_detector

CLASSES = ("cat", "/m/01yrx", "a|b <i>*c*</i>")
METRICS = {"AP": 0.5, "AP50": 0.75, "AP75": 0.25}


@pytest.fixture
def config(tmp_path) -> RunConfig:
    overrides = ["width=16", "min_size=64", "max_size=96", "detector_options.box_score_thresh=0"]
    overrides += ["weights_backbone=null", "workers=0", f"images={tmp_path}/photos"]
    return resolve("faster_rcnn_test_efficientnet_drfpn", f"{tmp_path}/farm", scale="small", overrides=overrides)


@pytest.fixture
def run(tmp_path, config) -> Path:
    """A run folder with everything that a run leaves, of a detector that is not trained."""
    folder = tmp_path / "runs" / "mine"
    (folder / "pictures").mkdir(parents=True)
    torch.manual_seed(1)
    card = Card(
        config=config, classes=CLASSES, category_ids=(1, 2, 3), epoch=3, metrics=METRICS, versions={"torch": "2"}
    )
    for name in ("best", "last"):
        save_detector(folder / f"{name}.safetensors", build(card), card)
    (folder / "config.yaml").write_text(config.to_yaml())
    metrics = {
        "split": "val",
        "images": 4,
        "box": METRICS,
        "per_class": {label: {"AP": 0.5, "AP50": 0.75} for label in CLASSES},
        "data": {"train": {"images": 7, "objects": 20}, "val": {"images": 4, "objects": 9}},
        "examples": [{"file": "seen.jpg", "kind": "best"}],
        "source": str(tmp_path / "farm" / "val.json"),
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    for name in ("curves.png", "pictures/seen.jpg", "pictures/holiday.jpg"):
        Image.new("RGB", (8, 8)).save(folder / name)
    for name in ("state.pt", "log.jsonl", "report.html", "detections.json"):
        (folder / name).write_text("private")
    return folder
