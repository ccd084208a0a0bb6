import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from torchvision.transforms.v2.functional import to_pil_image

from drfpn.cli import main
from drfpn.data import ShapesDataset


class Result(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def drfpn(monkeypatch, capsys, tmp_path) -> Callable[..., Result]:
    """Run a command in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*args: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["drfpn", *map(str, args)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


def write_coco(root: Path, images: int = 4) -> Path:
    """Write synthetic images in COCO layout, with sparse category ids."""
    (root / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        dataset = ShapesDataset(split, images)
        truth: dict[str, Any] = dataset.ground_truth()
        folder = root / f"{split}2017"
        folder.mkdir()
        for index, record in enumerate(truth["images"]):
            record["file_name"] = f"{record['id']:012d}.png"
            to_pil_image(dataset[index][0]).save(folder / record["file_name"])
        for category in truth["categories"]:
            category["id"] *= 7
        for annotation in truth["annotations"]:
            annotation["category_id"] *= 7
        (root / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(truth))
    return root


@pytest.fixture(scope="session")
def drawn_coco(tmp_path_factory) -> Path:
    return write_coco(tmp_path_factory.mktemp("drawn") / "coco")


@pytest.fixture
def coco(tmp_path, drawn_coco) -> Path:
    """A data set of the test's own, to damage."""
    return shutil.copytree(drawn_coco, tmp_path / "coco")


TINY = [
    part
    for setting in ("width=16", "min_size=64", "max_size=96", "batch_size=2", "workers=0", "weights_backbone=null")
    for part in ("-o", setting)
]


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """Train the tiniest run once: its weights are worth nothing, but they are weights."""
    from drfpn.cli.train import run
    from drfpn.training import resolve

    root = tmp_path_factory.mktemp("trained")
    data = write_coco(root / "coco")
    config = resolve("faster_rcnn_lite0_drfpn", str(data), epochs=1, overrides=TINY[1::2])
    run(config, root / "run", device="cpu")
    return root
