"""What a user can get wrong: one sentence, exit code 1 or 2, nothing half-written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import TINY

TRAIN = ("train", "faster_rcnn_lite0_drfpn", "--epochs", 1, *TINY, "--out", "run", "--data")


def annotations(root: Path, split: str = "train") -> Path:
    return root / "annotations" / f"instances_{split}2017.json"


def edit(root: Path, change: Callable[[dict[str, Any]], None]) -> None:
    file = annotations(root)
    record = json.loads(file.read_text())
    change(record)
    file.write_text(json.dumps(record))


def set_box(box: list[float]) -> Callable[[Path], None]:
    return lambda root: edit(root, lambda record: record["annotations"][0].update(bbox=box))


def spoil_image(root: Path) -> None:
    sorted((root / "train2017").iterdir())[0].write_bytes(b"not a picture")


def remove_image(root: Path) -> None:
    sorted((root / "train2017").iterdir())[0].unlink()


def remove_all_images(root: Path) -> None:
    for file in (root / "train2017").iterdir():
        file.unlink()


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "annotations missing": (lambda root: annotations(root).unlink(), "no split 'train'"),
    "not JSON": (lambda root: annotations(root).write_text("{"), "instances_train2017.json"),
    "JSON of another kind": (lambda root: annotations(root).write_text("[1, 2]"), "instances_train2017.json"),
    "no images listed": (lambda root: edit(root, lambda r: r.update(images=[])), "image"),
    "image that does not decode": (spoil_image, ".png"),
    "image missing": (remove_image, ".png"),
    "folder without images": (remove_all_images, "train2017"),
    "negative box": (set_box([10, 10, -5, 5]), "-5"),
    "box of no size": (set_box([10, 10, 0, 5]), "instances_train2017.json"),
    "box outside": (set_box([5000, 10, 20, 20]), "5000"),
    "box half outside": (set_box([200, 100, 2000, 20]), "2000"),
    "NaN box": (set_box([float("nan"), 1, 2, 3]), "nan"),
    "three numbers": (set_box([1, 2, 3]), "instances_train2017.json"),
    "unknown class": (lambda root: edit(root, lambda r: r["annotations"][0].update(category_id=999)), "999"),
    "missing image": (lambda root: edit(root, lambda r: r["annotations"][0].update(image_id=99999)), "99999"),
}


def assert_one_sentence(err: str) -> None:
    assert "Traceback" not in err
    message = [line for line in err.splitlines() if line.startswith("drfpn: ")]
    assert len(message) == 1, err
    assert message == err.splitlines()[-1:]


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_data_stops_training_with_one_sentence_and_is_listed_by_check(drfpn, coco, name) -> None:
    damage, said = DAMAGE[name]
    damage(coco)
    result = drfpn(*TRAIN, coco)
    assert result.code == 1
    assert_one_sentence(result.err)
    assert said.lower() in result.err.lower()
    assert not Path("run").exists()

    check = drfpn("data", "check", coco, "--json")
    assert check.code == 1
    findings = json.loads(check.out)["findings"]
    assert any(finding["severity"] == "error" and finding["count"] >= 1 for finding in findings)


@pytest.mark.parametrize("policy", ["skip", "fix"])
def test_bad_boxes_can_be_left_out_and_that_is_said(drfpn, coco, policy) -> None:
    set_box([10, 10, -5, 5])(coco)
    result = drfpn(*TRAIN, coco, "--on-bad", policy)
    assert result.code == 0, result.err
    assert "1 " in result.err


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("train", "faster_rcnn_r50_drfpm", "--data", "shapes"), 2, "Did you mean 'faster_rcnn_r50_drfpn'?"),
        (("train", "faster_rcnn_nonet_fpn", "--data", "shapes"), 2, "Unknown backbone 'nonet'"),
        (("train", "faster_rcnn_lite0_fpn", "--data", "shapse"), 1, "shapse"),
        (("train", "faster_rcnn_lite0_fpn", "--data", "shapes", "-o", "learning_rate=1"), 2, "Unknown setting"),
        (("train", "faster_rcnn_lite0_fpn", "--data", "shapes", "--schedule", "3x"), 2, "1x, 2x"),
        (("train", "faster_rcnn_lite0_fpn", "--data", "shapes", "--device", "tpu9"), 2, "tpu9"),
        (("train", "faster_rcnn_lite0_fpn", "--data", "shapes", "--resume"), 1, "no run to resume"),
        (("train", "faster_rcnn_lite0_drfpn", "--data", "shapes", "-o", "neck_options.contxt=x"), 2, "'context'"),
        (("eval", "nothing", "--data", "shapes"), 1, "no run or weights file nothing"),
        (("predict", "nothing", "also_nothing", "--out", "out"), 1, "also_nothing"),
        (("info", "faster_rcnn_r50_fpn", "--size", "800"), 2, "HEIGHTxWIDTH"),
        (("data", "check", "nowhere"), 1, "nowhere"),
        (("data", "show", "nowhere"), 1, "nowhere"),
        (("data", "convert", "nowhere", "--to", "coco", "--out", "out"), 1, "nowhere"),
        (("data", "convert", "shapes", "--to", "voca", "--out", "out"), 2, "Did you mean 'voc'?"),
        (
            ("data", "convert", "shapes", "--to", "voc", "--out", "out", "--images", "move"),
            2,
            "copy, hardlink, symlink",
        ),
        (("data", "check", "nowhere.yaml"), 1, "nowhere.yaml does not exist"),
        (("train", "faster_rcnn_lite0_fpn", "--data", "nowhere.yaml"), 1, "nowhere.yaml does not exist"),
    ],
)
def test_a_wrong_call_is_one_sentence(drfpn, args, code, said) -> None:
    result = drfpn(*args)
    assert result.code == code
    assert_one_sentence(result.err) if args[:2] != ("data", "check") else None
    assert said in result.err + result.out
    assert not any(Path().iterdir())


@pytest.mark.parametrize("args", [("trian",), ("train",), ("train", "x", "--data", "shapes", "--bogus")])
def test_a_call_that_cannot_be_parsed_exits_with_two(drfpn, args) -> None:
    assert drfpn(*args).code == 2


def test_a_folder_in_use_is_not_written_into(drfpn, coco, tmp_path) -> None:
    Path("run").mkdir()
    (Path("run") / "thesis.tex").touch()
    result = drfpn(*TRAIN, coco)
    assert result.code == 1
    assert "is not empty" in result.err
    assert [file.name for file in Path("run").iterdir()] == ["thesis.tex"]


def test_the_demo_only_makes_runs_anew(drfpn) -> None:
    Path("thesis").mkdir()
    result = drfpn("demo", "--out", "thesis")
    assert result.code == 1
    assert "is not a run" in result.err
    assert Path("thesis").is_dir()


MASKED = '{"image_id": 1, "category_id": 7, "bbox": [0, 0, 1, 1], "score": 1, "segmentation": MASK}'
SMALL_MASK = '{"size": [2, 3], "counts": [6]}'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("{}", "must hold a list"),
        ('[{"image_id": 1}]', "entry 0 must have"),
        ('[{"image_id": -4, "category_id": 7, "bbox": [0, 0, 1, 1], "score": 1}]', "image -4"),
        ('[{"image_id": 1, "category_id": 8, "bbox": [0, 0, 1, 1], "score": 1}]', "category 8"),
        ('[{"image_id": 1, "category_id": 7, "bbox": [0, 0, 1], "score": 1}]', "4 numbers"),
        (f"[{MASKED.replace('MASK', '[[1, 1, 5, 1, 5, 5]]')}]", "its segmentation is [[1, 1, 5, 1, 5, 5]]"),
        (f"[{MASKED.replace('MASK', SMALL_MASK)}]", "the size of its RLE is [2, 3]"),
        (f"[{MASKED.replace('MASK', 'null')}]", "its segmentation is None"),
    ],
)
def test_results_of_another_kind_are_refused(drfpn, coco, text, said) -> None:
    truth = json.loads(annotations(coco, "val").read_text())
    Path("results.json").write_text(text.replace('"image_id": 1,', f'"image_id": {truth["images"][0]["id"]},'))
    result = drfpn("eval", "results.json", "--data", coco)
    assert result.code == 1
    assert said in result.err


def test_masks_cannot_be_measured_on_data_without(drfpn, coco) -> None:
    truth = json.loads(annotations(coco, "val").read_text())
    keys = ("image_id", "category_id", "bbox", "segmentation")
    rows = [{key: row[key] for key in keys} | {"score": 1.0} for row in truth["annotations"]]
    Path("results.json").write_text(json.dumps(rows))
    for row in truth["annotations"]:
        del row["segmentation"]
    annotations(coco, "val").write_text(json.dumps(truth))
    result = drfpn("eval", "results.json", "--data", coco)
    assert result.code == 1
    assert_one_sentence(result.err)
    assert "objects has a segmentation" in result.err


@pytest.mark.parametrize("segmentation", ["text", [[1, 2, 3]], {"size": [1, 1], "counts": [1]}])
def test_a_detector_of_boxes_does_not_mind_bad_segmentations(drfpn, coco, segmentation) -> None:
    for split in ("train", "val"):
        record = json.loads(annotations(coco, split).read_text())
        record["annotations"][0]["segmentation"] = segmentation
        annotations(coco, split).write_text(json.dumps(record))
    result = drfpn(*TRAIN, coco)
    assert result.code == 0, result.err
    check = drfpn("data", "check", coco)
    assert check.code == 1
    assert "Training can go ahead, but not with masks." in check.out


def test_a_detector_of_other_classes_is_not_measured(drfpn, trained) -> None:
    edit_val = json.loads(annotations(trained / "coco", "val").read_text())
    edit_val["categories"][0]["name"] = "unheard of"
    other = Path("other")
    (other / "annotations").mkdir(parents=True)
    (other / "val2017").symlink_to(trained / "coco" / "val2017")
    annotations(other, "val").write_text(json.dumps(edit_val))
    result = drfpn("eval", trained / "run", "--data", other)
    assert result.code == 1
    assert "knows the classes" in result.err


def strip_segmentations(record: dict[str, Any]) -> None:
    for annotation in record["annotations"]:
        del annotation["segmentation"]


def test_a_mask_detector_wants_masks(drfpn, coco) -> None:
    edit(coco, strip_segmentations)
    result = drfpn("train", "mask_rcnn_lite0_drfpn", "--epochs", 1, *TINY, "--out", "run", "--data", coco)
    assert result.code == 1
    assert "none of its" in result.err
    assert "expected polygons or RLE" in result.err
    assert "Traceback" not in result.err
    assert not Path("run").exists()
