"""``drfpn data check`` and ``drfpn data split``."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def unsplit(coco) -> Path:
    """The training images of ``coco`` with one file of annotations beside them."""
    folder = Path("photos")
    shutil.move(coco / "train2017", folder)
    shutil.move(coco / "annotations/instances_train2017.json", folder / "objects.json")
    return folder / "objects.json"


def test_the_last_line_says_what_training_would_use(drfpn, coco) -> None:
    Image.new("RGB", (8, 8)).save(coco / "train2017/new.png")
    (coco / "train2017/._new.png").write_bytes(b"x")
    result = drfpn("data", "check", coco)
    assert result.code == 0
    last = result.out.splitlines()[-1]
    truth = {
        split: json.loads((coco / f"annotations/instances_{split}2017.json").read_text()) for split in ("train", "val")
    }
    objects = {split: len(rows["annotations"]) for split, rows in truth.items()}
    classes = len({row["category_id"] for row in truth["train"]["annotations"]})
    assert last == (
        f"Training would use 4 images with {objects['train']} objects of {classes} classes, "
        f"validation 4 images with {objects['val']} objects. Not used: 1 image without a record."
    )
    output = json.loads(drfpn("data", "check", coco, "--json").out)
    assert output["conclusion"] == last
    assert output["splits"]["val"] == {
        "images": 4,
        "objects": objects["val"],
        "classes": len({row["category_id"] for row in truth["val"]["annotations"]}),
        "crowd": 0,
    }
    assert output["not_used"] == {"image without a record": 1}


def test_the_last_line_names_the_first_error_and_its_cure(drfpn, coco) -> None:
    file = coco / "annotations/instances_train2017.json"
    data = json.loads(file.read_text())
    data["annotations"][0]["bbox"][2] = 1000
    file.write_text(json.dumps(data))
    result = drfpn("data", "check", coco)
    assert result.code == 1
    last = result.out.splitlines()[-1]
    assert last.startswith(f"Training would fail: {file}: annotation ")
    assert last.endswith("--on-bad skip goes on without such images and objects, and --on-bad fix clips boxes.")


def test_a_missing_optional_split_does_not_stop_the_check_of_the_others(drfpn, coco) -> None:
    assert drfpn("data", "convert", coco, "--to", "yolo", "--out", "set", "--no-masks").code == 0
    file = Path("set/data.yaml")
    file.write_text(file.read_text() + "test: images/test\n")
    result = drfpn("data", "check", file, "--json")
    assert result.code == 0, result.out
    output = json.loads(result.out)
    finding = next(finding for finding in output["findings"] if finding["kind"] == "split-unreadable")
    assert "test is 'set/images/test', which does not exist" in finding["examples"][0]
    assert output["conclusion"].startswith("Training would use 4 images")
    shutil.rmtree("set/images/val")
    assert drfpn("data", "check", file).code == 1


def test_check_draws_a_contact_sheet(drfpn, coco) -> None:
    result = drfpn("data", "check", coco, "--out", "sheet.png", "--samples", 2)
    assert result.out.splitlines()[-1] == "contact sheet in sheet.png"
    with Image.open("sheet.png") as sheet:
        assert sheet.width > 4 * 400  # two images of each split
    refused = drfpn("data", "check", coco, "--out", "sheet.gif")
    assert refused.code == 2
    assert "--out is sheet.gif, expected a name that ends in .png" in refused.err


def test_data_without_val_is_split_and_then_checked(drfpn, unsplit) -> None:
    before = drfpn("data", "check", unsplit)
    assert before.code == 1
    command = f"'drfpn data split {unsplit} --val 0.2' divides it into train and val."
    assert before.out.splitlines()[-1].endswith(command)
    train = drfpn("train", "faster_rcnn_lite0_drfpn", "--data", unsplit, "--out", "run")
    assert train.code == 1
    assert command in train.err
    assert not Path("run").exists()
    result = drfpn("data", "split", unsplit, "--val", 0.25)
    assert result.code == 0, result.err
    assert result.out.splitlines()[-1] == "lists of train, val in photos/objects.splits"
    assert "3 (75.0%)" in result.out
    after = drfpn("data", "check", unsplit)
    assert after.out.splitlines()[-1].startswith("Training would use 3 images with ")
    again = drfpn("data", "split", unsplit, "--val", 0.25)
    assert again.code == 1
    assert "--force replaces them" in again.err
    assert drfpn("data", "split", unsplit, "--val", 0.5, "--force").code == 0


def test_split_prints_its_numbers_as_json(drfpn, unsplit) -> None:
    output = json.loads(drfpn("data", "split", unsplit, "--val", 0.25, "--test", 0.25, "--json").out)
    assert output["images"] == {"train": 2, "val": 1, "test": 1}
    assert output["similar_images"] == output["undecodable"] == 0
    rows = json.loads(unsplit.read_text())["annotations"]
    assert sum(sum(counts.values()) for counts in output["objects_per_class"].values()) == len(rows)
    assert Path(output["files"]["test"]).read_text().endswith(".png\n")


def test_split_refuses_what_is_no_fraction(drfpn, unsplit) -> None:
    result = drfpn("data", "split", unsplit, "--val", 20)
    assert result.code == 2
    assert "--val is 20, expected a fraction of the images" in result.err


def test_split_says_where_similar_images_change_its_fractions(drfpn, unsplit) -> None:
    first, *others = sorted(unsplit.parent.glob("*.png"))
    for other in others[:2]:
        shutil.copy(first, other)
    lines = drfpn("data", "split", unsplit, "--val", 0.5).out.splitlines()
    assert "3 images look alike and are kept together, in 1 group" in lines
    assert "val has 25.0% of the images, not 50.0%: --no-group-similar divides groups" in lines
