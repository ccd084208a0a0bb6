"""Fuzz tests: randomly changed annotations are read, or refused in one sentence."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from drfpn.data import DetectionDataset, check_dataset, open_dataset
from drfpn.utils.errors import UserError

VALID = {
    "images": [
        {"id": 3, "file_name": "a.png", "width": 20, "height": 16},
        {"id": 5, "file_name": "b.png", "width": 12, "height": 12},
    ],
    "annotations": [
        {"id": 1, "image_id": 3, "category_id": 2, "bbox": [1, 2, 8, 9], "area": 40.5, "iscrowd": 0},
        {
            "id": 2,
            "image_id": 3,
            "category_id": 7,
            "bbox": [4, 4, 6, 6],
            "area": 36,
            "iscrowd": 0,
            "segmentation": [[4, 4, 10, 4, 10, 10]],
        },
        {
            "id": 4,
            "image_id": 5,
            "category_id": 7,
            "bbox": [0, 0, 12, 12],
            "area": 144,
            "iscrowd": 1,
            "segmentation": {"size": [12, 12], "counts": [0, 144]},
        },
    ],
    "categories": [{"id": 2, "name": "cat"}, {"id": 7, "name": "dog"}],
}
ODD = st.one_of(
    st.sampled_from([None, True, "", "x", -1, 0, 2**70, 1e308, 17.0, [], {}, [[]], [1, 2, 3, 4], "3"]),
    st.integers(-(2**66), 2**66),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.floats() | st.integers(-9, 99), max_size=8),
    st.recursive(st.none(), lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2)),
)


@st.composite
def changed(draw: Any) -> dict[str, Any]:
    """Draw a COCO dict with a few entries replaced, removed or repeated, anywhere."""
    data = copy.deepcopy(VALID)
    for _ in range(draw(st.integers(1, 3))):
        value: Any = data
        while True:
            keys = list(value) if isinstance(value, dict) else list(range(len(value)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            inner = value[key]
            if isinstance(inner, dict | list) and inner and draw(st.integers(0, 3)):
                value = inner
                continue
            change = draw(st.sampled_from(["replace", "replace", "remove", "repeat"]))
            if change == "replace":
                value[key] = draw(ODD)
            elif change == "remove":
                del value[key]
            elif isinstance(value, list):
                value.append(copy.deepcopy(inner))
            break
    return data


def folder(root: Path, text: bytes) -> Path:
    (root / "annotations").mkdir()
    for split in ("train", "val"):
        (root / "annotations" / f"instances_{split}2017.json").write_bytes(text)
        (root / f"{split}2017").mkdir()
        Image.new("RGB", (20, 16)).save(root / f"{split}2017" / "a.png")
        Image.new("RGB", (12, 12)).save(root / f"{split}2017" / "b.png")
    return root


def assert_valid(dataset: DetectionDataset, masks: bool) -> None:
    for index in range(len(dataset)):
        try:
            image, target = dataset[index]
        except UserError as error:
            assert_one_sentence(error, dataset.name(index))
            continue
        height, width = image.shape[-2:]
        x1, y1, x2, y2 = target["boxes"].unbind(1)
        assert ((x1 >= 0) & (y1 >= 0) & (x2 <= width) & (y2 <= height) & (x2 > x1) & (y2 > y1)).all()
        assert target["boxes"].dtype == torch.float32
        assert ((target["labels"] >= 1) & (target["labels"] <= len(dataset.classes))).all()
        assert not masks or target["masks"].shape == (len(x1), height, width)
    json.dumps(dataset.ground_truth())


def assert_one_sentence(error: UserError, name: str) -> None:
    text = str(error)
    assert name in text
    assert "\n" not in text
    assert len(text) < 1000
    assert "Traceback" not in text


def assert_read_or_refused(root: Path) -> None:
    """Open the data set in all ways, and compare with ``check_dataset``."""
    refused = False
    for masks in (False, None):
        for on_bad in ("error", "skip", "fix"):
            try:
                dataset = open_dataset(str(root), "train", masks=masks, on_bad=on_bad)
            except UserError as error:
                refused |= on_bad == "error" and masks is False
                assert_one_sentence(error, str(root))
            else:
                assert_valid(dataset, masks=False)
    issues = check_dataset(str(root))
    assert not refused or any(issue.severity == "error" for issue in issues)


SETTINGS: dict[str, Any] = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}


@given(data=changed())
@settings(max_examples=120, **SETTINGS)
def test_changed_annotations_are_read_or_refused(data, tmp_path_factory) -> None:
    assert_read_or_refused(folder(tmp_path_factory.mktemp("fuzz"), json.dumps(data).encode()))


@pytest.mark.slow
@given(data=changed())
@settings(max_examples=500, **SETTINGS)
def test_many_changed_annotations_are_read_or_refused(data, tmp_path_factory) -> None:
    assert_read_or_refused(folder(tmp_path_factory.mktemp("fuzz"), json.dumps(data).encode()))


@given(
    cut=st.integers(0, 700),
    junk=st.binary(max_size=4),
    encoding=st.sampled_from(["utf-8", "utf-16", "utf-32", "cp1252"]),
)
@settings(max_examples=80, **SETTINGS)
def test_damaged_bytes_are_read_or_refused(cut, junk, encoding, tmp_path_factory) -> None:
    text = json.dumps(VALID | {"info": "é"}, ensure_ascii=False).encode(encoding)
    for damaged in (text[:cut], text[:cut] + junk + text[cut:]):
        assert_read_or_refused(folder(tmp_path_factory.mktemp("fuzz"), damaged))


XML = """<annotation><size><width>20</width><height>16</height></size>
<object><name>cat</name><difficult>0</difficult><bndbox><xmin>2</xmin><ymin>3</ymin><xmax>9</xmax><ymax>11</ymax></bndbox></object>
<object><name>dog</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>20</xmax><ymax>16</ymax></bndbox></object></annotation>"""


@given(
    cut=st.integers(0, len(XML)),
    length=st.integers(0, 30),
    junk=st.sampled_from(
        ["", "<", "nan", "-5", "1e999", "é", "&", "</object>", "<object>", "\0", "<!DOCTYPE x [<!ENTITY y 'z'>]>"]
    ),
)
@settings(max_examples=120, **SETTINGS)
def test_changed_xml_is_read_or_refused(cut, length, junk, tmp_path_factory) -> None:
    root = tmp_path_factory.mktemp("fuzz")
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / name).mkdir(parents=True)
    for name in ("a", "b"):
        Image.new("RGB", (20, 16)).save(root / "JPEGImages" / f"{name}.png")
        (root / "Annotations" / f"{name}.xml").write_text(XML)
    (root / "Annotations" / "a.xml").write_text(XML[:cut] + junk + XML[cut + length :])
    for split in ("train", "val"):
        (root / "ImageSets/Main" / f"{split}.txt").write_text("a\nb\n")
    assert_read_or_refused(root)
