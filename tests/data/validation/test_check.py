import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from drfpn.data import Annotations, check_dataset, load_image, open_dataset, sanitize_boxes
from drfpn.data.annotation_builder import AnnotationBuilder
from drfpn.data.validation.boxes import box_convention_issue, find_invalid_boxes
from drfpn.data.validation.check import ISSUE_KINDS, IssueSummary
from drfpn.data.validation.duplicates import compute_fingerprint, find_similar_pairs
from drfpn.utils.errors import UserError


def by_kind(issues: list[IssueSummary]) -> dict[str, IssueSummary]:
    return {issue.kind: issue for issue in issues}


def test_valid_data_set_has_no_errors(folder: Any, coco_dict: Any) -> None:
    issues = by_kind(check_dataset(folder.coco(coco_dict), ["train"]))
    warnings = {"image-without-objects", "class-without-objects", "mask-missing"}  # bottle is a crowd only
    assert set(issues) == warnings
    assert "'7.png' has no object" in issues["image-without-objects"].examples[0]
    assert "class 'bottle' has no object in train" in issues["class-without-objects"].examples[0]
    assert check_dataset("shapes") == []


def test_all_issues_are_found_at_once(folder: Any, coco_dict: Any) -> None:
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
    folder.image("train2017/103.png", 30, 20, exif=exif)  # rotated to 20 x 30, as annotated
    issues = by_kind(check_dataset(data, ["train"]))
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
        "unused-image": 1,  # that of the repeated id
    }
    assert {kind: issue.count for kind, issue in issues.items()} == expected
    assert len(issues["image-without-objects"].examples) == 5
    for kind, part in {
        "image-missing": "100.png",
        "image-undecodable": "101.png: cannot be decoded",
        "image-size": "the image is 20 x 30 px (it may have been annotated without its EXIF orientation)",
        "exif-rotated": "103.png: its EXIF orientation is 6",
        "box-nan": "annotation 20 of image '12.png'",
        "unknown-category": "annotation 25: its category_id is 4",
        "tiny-box": "annotation 24: its box in '12.png' is 1 x 1 px",
    }.items():
        assert part in issues[kind].examples[0]


def test_errors_come_before_warnings(folder: Any, coco_dict: Any) -> None:
    coco_dict["annotations"][0]["bbox"] = [0, 0, 0, 0]
    severities = [issue.severity for issue in check_dataset(folder.coco(coco_dict))]
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
    assert set(by_kind(check_dataset(data, ["val"]))) == {"split-missing"}
    assert set(by_kind(check_dataset(data))) == {"no-images", "split-missing"}
    with pytest.raises(UserError, match="does not exist"):
        check_dataset(f"{data}/none")


@pytest.mark.parametrize(("splits", "missing"), [("train val", 0), ("train test", 0), ("train", 1), ("val", 1)])
def test_training_requires_a_split_to_train_on_and_one_to_evaluate(folder: Any, splits: str, missing: int) -> None:
    data = folder.voc({"a": folder.voc_object("cat", (2, 3, 10, 12))}, **{split: ["a"] for split in splits.split()})
    issues = by_kind(check_dataset(data))
    assert ("split-missing" in issues) is bool(missing)


def test_splits_are_compared(folder: Any, coco_dict: Any) -> None:
    folder.json("annotations/train.json", coco_dict)
    coco_dict["categories"][0]["name"] = "tooth-brush"
    folder.json("annotations/val.json", coco_dict)
    for image in coco_dict["images"]:
        folder.image(f"images/{image['file_name']}")
    issues = by_kind(check_dataset(str(folder.root)))
    assert "tooth-brush" in issues["classes-differ"].examples[0]
    assert issues["image-in-two-splits"].count == 3


@pytest.mark.parametrize(
    ("box", "words"), [([0.1, 0.2, 0.3, 0.4], "between 0 and 1"), ([15, 10, 29, 19], "x1, y1, x2, y2")]
)
def test_other_box_conventions_are_recognized(folder: Any, coco_dict: Any, box: list[float], words: str) -> None:
    coco_dict["annotations"] = [{"id": i, "image_id": 12, "category_id": 3, "bbox": box} for i in range(1, 7)]
    issue = by_kind(check_dataset(folder.coco(coco_dict)))["box-convention"]
    assert words in issue.examples[0]


def test_issues_of_voc_are_found_together(folder: Any) -> None:
    box = folder.voc_object
    files = {"a": box("dog", (1, 1, 9, 9)), "b": box("dog", (5, 5, 2, 9)), "c": "", "d": "<object/>"}
    data = folder.voc(files, train=["a", "b", "c", "e"], val=["d"])
    (folder.root / "Annotations/c.xml").write_text("<annotation>")
    issues = by_kind(check_dataset(data))
    errors = {kind: f.count for kind, f in issues.items() if f.severity == "error"}
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
    assert all(meaning.endswith(".") for _, meaning in ISSUE_KINDS.values())


def test_tiny_boxes_of_real_data_are_found(assets: Path) -> None:
    issues = by_kind(check_dataset(str(assets / "voc"), ["train"]))
    assert "tiny-box" in issues
    assert not [issue for issue in issues.values() if issue.severity == "error"]


def save_photo(path: Path, seed: int, **options: Any) -> None:
    """Draw a blurred pattern similar to a photo; ``options`` are Pillow's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    blobs = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    size = options.pop("size", (240, 160))
    Image.fromarray(blobs).resize((240, 160), Image.Resampling.BICUBIC).resize(size).save(path, **options)


def photos(root: Path, **splits: list[str]) -> str:
    """Write COCO files and their images."""
    for split, names in splits.items():
        images = [{"id": i, "file_name": name} for i, name in enumerate(names, start=1)]
        annotations = [{"id": i["id"], "image_id": i["id"], "category_id": 1, "bbox": [1, 2, 30, 40]} for i in images]
        data = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]}
        (root / "annotations").mkdir(exist_ok=True)
        (root / f"annotations/instances_{split}2017.json").write_text(json.dumps(data))
        for seed, name in enumerate(names):
            save_photo(root / f"{split}2017" / name, seed if split == "train" else 100 + seed)
    return str(root)


def test_duplicates_within_and_between_splits_are_found_by_their_pixels(tmp_path: Path) -> None:
    data = photos(tmp_path, train=["a.png", "b.png", "c.png", "d.png"], val=["e.png", "f.png"])
    assert check_dataset(data) == []
    save_photo(tmp_path / "train2017/d.png", 0, compress_level=0)  # a.png in other bytes
    save_photo(tmp_path / "val2017/f.png", 1)  # b.png
    issues = by_kind(check_dataset(data))
    assert {kind: issue.count for kind, issue in issues.items()} == {
        "image-in-two-splits": 1,
        "duplicate-image": 1,
    }
    assert "d.png: it is in train twice, also as" in issues["duplicate-image"].examples[0]
    assert "f.png: it is in train and val, also as" in issues["image-in-two-splits"].examples[0]


@pytest.mark.parametrize("options", [{"format": "JPEG", "quality": 50}, {"size": (180, 120)}])
def test_resized_and_recompressed_copies_are_similar(tmp_path: Path, options: dict[str, Any]) -> None:
    data = photos(tmp_path, train=["a.png", "b.png"], val=["e.png", "f.png"])
    save_photo(tmp_path / "val2017/f.png", 0, **options)
    issues = by_kind(check_dataset(data))
    assert set(issues) == {"similar-image"}
    assert "f.png: it looks like" in issues["similar-image"].examples[0]
    assert "in train and val" in issues["similar-image"].examples[0]


def test_pairs_are_those_of_comparing_all_thumbnails() -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(0, 256, (150, 16, 17))
    near = base[:60] + rng.integers(-2, 3, (60, 16, 17))
    flat = np.full((5, 16, 17), 90) + rng.integers(0, 2, (5, 16, 17))
    thumbnails = np.concatenate([base, near, flat]).clip(0, 255).astype(np.uint8)
    difference = np.abs(thumbnails[:210, None].astype(int) - thumbnails[None, :210]).mean(axis=(2, 3))
    expected = set(zip(*np.nonzero(np.triu(difference <= 2, 1)), strict=True))
    assert len(expected) == 60
    assert set(find_similar_pairs(thumbnails)) == expected


def test_real_photos_are_similar_only_to_their_copies(assets: Path) -> None:
    for folder in ("coco/train2017", "voc/JPEGImages"):
        files = sorted((assets / folder).glob("*.jpg"))[:100]
        originals = [compute_fingerprint(load_image(file).numpy()).thumbnail for file in files]
        copies = []
        for file in files:
            stream = io.BytesIO()
            Image.open(file).convert("RGB").save(stream, "JPEG", quality=85)
            copies.append(compute_fingerprint(load_image(stream).numpy()).thumbnail)
        pairs = find_similar_pairs(np.array(originals + copies))
        assert {b - a for a, b in pairs} == {len(files)}  # none with another photo
        assert len(pairs) == len(files)


def random_boxes(count: int, convention: str, fraction: float = 1.0) -> Annotations:
    """Return random boxes in images of 640 x 480 px, a ``fraction`` of them in another convention."""
    rng = np.random.default_rng(0)
    wide, high = rng.uniform(5, 200, count), rng.uniform(5, 200, count)
    boxes = np.stack([rng.uniform(0, 640 - wide), rng.uniform(0, 480 - high), wide, high], axis=1)
    odd = rng.random(count) < fraction
    if convention == "corners":
        boxes[odd, 2:] += boxes[odd, :2]
    elif convention == "relative":
        boxes[odd] /= (640, 480, 640, 480)
    elif convention == "imprecise":
        boxes[odd, 2:] += 40
    objects = AnnotationBuilder()
    for index, box in enumerate(boxes.tolist()):
        objects.add(image_index=index // 10, box=box, label=1, area=1)
    images = count // 10
    return Annotations(
        root=Path(),
        source=Path("a.json"),
        classes=("cat",),
        category_ids=np.array([1]),
        image_ids=np.arange(images),
        file_names=np.array([f"{i}.jpg" for i in range(images)]),
        sizes=np.tile([480, 640], (images, 1)),
        **objects.arrays(images),
    )


@pytest.mark.parametrize("fraction", [0.05, 0.5, 1.0])
@pytest.mark.parametrize(
    ("convention", "words"), [("corners", "as x1, y1, x2, y2"), ("relative", "fractions of the image")]
)
def test_a_part_of_the_boxes_in_another_convention_is_enough(convention: str, words: str, fraction: float) -> None:
    issue = box_convention_issue(random_boxes(1000, convention, fraction))
    assert issue is not None
    assert words in issue.observed


@pytest.mark.parametrize("fraction", [0.0, 0.05, 1.0])
def test_imprecise_boxes_are_not_mistaken_for_another_convention(fraction: float) -> None:
    annotations = random_boxes(1000, "imprecise", fraction)
    assert box_convention_issue(annotations) is None
    assert (sum(mask.sum() for mask in find_invalid_boxes(annotations).values()) > 0) == (fraction > 0)


@pytest.mark.parametrize("on_bad", ["error", "skip", "fix"])
def test_boxes_in_another_convention_are_refused_with_every_policy(on_bad: Any) -> None:
    for convention in ("corners", "relative"):
        with pytest.raises(UserError, match="expected x, y, width, height in pixels"):
            sanitize_boxes(random_boxes(100, convention), on_bad)


@pytest.mark.parametrize("split", ["train", "val"])
def test_real_boxes_are_in_the_expected_convention(assets: Path, split: str) -> None:
    for name in ("coco", "voc"):
        dataset = open_dataset(str(assets / name), split)
        assert box_convention_issue(dataset.annotations) is None
