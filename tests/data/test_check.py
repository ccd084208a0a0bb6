import math
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from drfpn.data import check_dataset
from drfpn.data.check import MEANINGS, Finding
from drfpn.errors import UserError


def by_kind(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.kind: finding for finding in findings}


def test_sound_data_set_has_no_errors(folder: Any, coco_dict: Any) -> None:
    findings = by_kind(check_dataset(folder.coco(coco_dict), ["train"]))
    warnings = {"image-without-objects", "class-without-objects", "mask-missing"}  # bottle is a crowd only
    assert set(findings) == warnings
    assert "'7.png' has no object" in findings["image-without-objects"].examples[0]
    assert "class 'bottle' has no object in train" in findings["class-without-objects"].examples[0]
    assert check_dataset("shapes") == []


def test_every_fault_is_found_in_one_go(folder: Any, coco_dict: Any) -> None:
    del coco_dict["annotations"][1:]
    coco_dict["images"] += [{"id": i, "file_name": f"{i}.png", "height": 20, "width": 30} for i in range(100, 106)]
    for number, (box, changes) in enumerate(
        [
            ([1, 1, math.nan, 2], {}),
            ([1, 1, 5, 0], {}),
            ([31, 1, 5, 5], {}),
            ([28, 1, 5, 5], {}),
            ([1, 1, 1, 1], {}),
            ([1, 1, 5, 5], {"category_id": 4}),
            ([1, 1, 5, 5], {"image_id": 4}),
            ([1, 1, 5, 5], {"id": 20}),
            ([1, 1, 5], {}),
        ],
        start=20,
    ):
        coco_dict["annotations"].append({"id": number, "image_id": 12, "category_id": 3, "bbox": box} | changes)
    coco_dict["images"].append({**coco_dict["images"][0], "file_name": "again.png"})
    data = folder.coco(coco_dict)
    (folder.root / "train2017/100.png").unlink()
    whole = (folder.root / "train2017/101.png").read_bytes()
    (folder.root / "train2017/101.png").write_bytes(whole[: len(whole) // 2])
    folder.image("train2017/102.png", 30, 20)
    exif = Image.Exif()
    exif[274] = 6
    folder.image("train2017/103.png", 30, 20, exif=exif)  # turned to 20 x 30, as annotated
    findings = by_kind(check_dataset(data, ["train"]))
    expected = {
        "duplicate-image-id": 1,
        "duplicate-annotation-id": 1,
        "unknown-category": 1,
        "unknown-image": 1,
        "bad-record": 1,
        "box-nan": 1,
        "box-without-area": 1,
        "box-outside": 1,
        "box-reaches-out": 1,
        "image-missing": 1,
        "image-undecodable": 1,
        "image-size": 1,
        "tiny-box": 1,
        "exif-rotated": 1,
        "class-without-objects": 1,
        "mask-missing": 5,
        "image-without-objects": 8,
    }
    assert {kind: finding.count for kind, finding in findings.items()} == expected
    assert len(findings["image-without-objects"].examples) == 5
    for kind, part in {
        "image-missing": "100.png",
        "image-undecodable": "101.png: cannot be decoded",
        "image-size": "the image is 20 x 30 px (it may have been annotated without its EXIF orientation)",
        "exif-rotated": "103.png: its EXIF orientation is 6",
        "box-nan": "annotation 20 of image '12.png'",
        "unknown-category": "annotation 25: its category_id is 4",
        "tiny-box": "annotation 24: its box in '12.png' is 1 x 1 px",
    }.items():
        assert part in findings[kind].examples[0]


def test_errors_come_before_warnings(folder: Any, coco_dict: Any) -> None:
    coco_dict["annotations"][0]["bbox"] = [0, 0, 0, 0]
    severities = [finding.severity for finding in check_dataset(folder.coco(coco_dict))]
    assert severities == sorted(severities)
    assert set(severities) == {"error", "warning"}


@pytest.mark.parametrize(
    ("text", "kind"),
    [("{", "not-coco"), ("[]", "not-coco"), ('{"images": []}', "not-coco")],
)
def test_unreadable_split_does_not_hide_the_other(folder: Any, coco_dict: Any, text: str, kind: str) -> None:
    data = folder.coco(coco_dict, "val")
    folder.json("annotations/instances_train2017.json", text)
    assert {kind, "image-without-objects"} <= set(by_kind(check_dataset(data)))


def test_empty_and_missing_splits_are_errors(folder: Any, coco_dict: Any) -> None:
    data = folder.coco({**coco_dict, "images": [], "annotations": []})
    assert set(by_kind(check_dataset(data, ["train"]))) == {"no-images"}
    assert set(by_kind(check_dataset(data, ["val"]))) == {"annotations-missing"}
    assert set(by_kind(check_dataset(data))) == {"no-images", "annotations-missing"}
    with pytest.raises(UserError, match="does not exist"):
        check_dataset(f"{data}/none")


@pytest.mark.parametrize(("splits", "missing"), [("train val", 0), ("train test", 0), ("train", 1), ("val", 1)])
def test_training_needs_a_split_to_train_on_and_one_to_measure_on(folder: Any, splits: str, missing: int) -> None:
    data = folder.voc({"a": folder.voc_object("cat", (2, 3, 10, 12))}, **{split: ["a"] for split in splits.split()})
    found = by_kind(check_dataset(data))
    assert ("annotations-missing" in found) is bool(missing)


def test_splits_are_compared(folder: Any, coco_dict: Any) -> None:
    folder.json("annotations/train.json", coco_dict)
    coco_dict["categories"][0]["name"] = "tooth-brush"
    folder.json("annotations/val.json", coco_dict)
    for image in coco_dict["images"]:
        folder.image(f"images/{image['file_name']}")
    findings = by_kind(check_dataset(str(folder.root)))
    assert "tooth-brush" in findings["classes-differ"].examples[0]
    assert findings["image-in-two-splits"].count == 3


@pytest.mark.parametrize(
    ("box", "words"), [([0.1, 0.2, 0.3, 0.4], "between 0 and 1"), ([15, 10, 29, 19], "x1, y1, x2, y2")]
)
def test_other_box_conventions_are_recognised(folder: Any, coco_dict: Any, box: list[float], words: str) -> None:
    coco_dict["annotations"] = [{"id": i, "image_id": 12, "category_id": 3, "bbox": box} for i in range(1, 7)]
    finding = by_kind(check_dataset(folder.coco(coco_dict)))["box-convention"]
    assert words in finding.examples[0]


def test_voc_faults_are_found_together(folder: Any) -> None:
    box = folder.voc_object
    files = {"a": box("dog", (1, 1, 9, 9)), "b": box("dog", (5, 5, 2, 9)), "c": "", "d": "<object/>"}
    data = folder.voc(files, train=["a", "b", "c", "e"], val=["d"])
    (folder.root / "Annotations/c.xml").write_text("<annotation>")
    findings = by_kind(check_dataset(data))
    errors = {kind: f.count for kind, f in findings.items() if f.severity == "error"}
    assert errors == {
        "annotations-missing": 1,
        "image-missing": 1,
        "not-voc": 1,
        "bad-record": 1,
        "box-without-area": 1,
    }


def test_progress_counts_every_image(folder: Any, coco_dict: Any) -> None:
    folder.coco(coco_dict)
    data = folder.coco(coco_dict, "val")
    calls: list[tuple[int, int]] = []
    check_dataset(data, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 6) for done in range(1, 7)]


def test_meanings_are_sentences() -> None:
    assert all(meaning.endswith(".") for _, meaning in MEANINGS.values())


def test_tiny_boxes_of_real_data_are_found(real_data: Path) -> None:
    findings = by_kind(check_dataset(str(real_data / "bccd"), ["train"]))
    assert "tiny-box" in findings
    assert not [finding for finding in findings.values() if finding.severity == "error"]
