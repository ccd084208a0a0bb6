import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hotcoco import COCO

from drfpn.data import check_dataset, open_dataset, stats
from drfpn.data.formats.yolo import read_yolo
from drfpn.data.formats.yolo_yaml import read_yolo_config
from drfpn.data.masks.rle import area
from drfpn.utils.errors import UserError


def test_boxes_and_polygons_are_read_in_pixels(folder: Any) -> None:
    lines = "1 0.5 0.5 0.2 0.4\n\n0 0.1 0.1 0.6 0.1 0.6 0.5\n"
    annotations = read_yolo(folder.yolo({"a": lines}), "train")  # 30 wide, 20 high
    np.testing.assert_allclose(annotations.boxes, [[12, 6, 6, 8], [3, 2, 15, 8]])
    np.testing.assert_allclose(annotations.areas, [48, 60])  # a right-angled triangle: half of its box
    assert annotations.labels.tolist() == [2, 1]
    assert annotations.annotation_ids.tolist() == [1, 2]
    assert annotations.sizes.tolist() == [[20, 30]]
    assert annotations.segmentations is not None
    assert annotations.segmentations[0] is None
    np.testing.assert_allclose(annotations.segmentations[1], [[3, 2, 18, 2, 18, 10]])


def test_labels_start_at_one_and_category_ids_are_one_above_class_ids(folder: Any) -> None:
    annotations = read_yolo(folder.yolo({"a": "2 0.5 0.5 1 1\n"}, names=["c", "b", "a"]), "train")
    assert annotations.classes == ("c", "b", "a")
    assert annotations.category_ids.tolist() == [1, 2, 3]
    assert annotations.to_coco()["annotations"][0]["category_id"] == 3


def test_an_image_with_an_empty_or_missing_label_file_is_background(folder: Any) -> None:
    annotations = read_yolo(folder.yolo({"a": "", "b": None, "c": "0 0.5 0.5 1 1"}), "train")
    assert annotations.starts.tolist() == [0, 0, 0, 1]
    assert annotations.file_names.tolist() == ["a.png", "b.png", "c.png"]
    assert annotations.annotation_file(1) == folder.root / "labels/train/b.txt"
    assert annotations.first(2).annotation_file(1) == folder.root / "labels/train/b.txt"


def test_a_split_without_any_label_file_is_refused(folder: Any) -> None:
    data = folder.yolo({"a": None, "b": None})
    with pytest.raises(UserError, match=r"none of the 2 images of 'train' has a label file.*labels/train/a\.txt"):
        read_yolo(data, "train")
    assert [issue.kind for issue in check_dataset(str(data), ["train"])] == ["annotations-missing"]


BAD_LINES = {
    "0 0.5 0.5 0.1": ("bad-record", "it has 4 words"),
    "0 0.5 0.5 0.1 0.1 0.9": ("bad-record", "it has 6 words, as a prediction with its confidence has"),
    "0 0.1 0.1 0.2 0.2 0.3 0.3 0.4": ("bad-record", "it has 8 words"),
    "cat 0.5 0.5 0.1 0.1": ("bad-record", "its word 1 is 'cat'"),
    "0 0.5 0,5 0.1 0.1": ("bad-record", "its word 3 is '0,5'"),
    "0 0.5 nan 0.1 0.1": ("bad-record", "its word 3 is 'nan'"),
    "0 0.5 0.5 inf 0.1": ("bad-record", "its word 4 is 'inf'"),
    "1.5 0.5 0.5 0.1 0.1": ("bad-record", "its class id is 1.5"),
    "2 0.5 0.5 0.1 0.1": ("unknown-category", "its class id is 2"),
    "-1 0.5 0.5 0.1 0.1": ("unknown-category", "its class id is -1"),
    "0 15 10 6 8": ("bad-record", "its coordinate 1 is 15"),
    "0 0.5 -0.5 0.1 0.1": ("bad-record", "its coordinate 2 is -0.5"),
    "0 0.1 0.1 0.2 0.2 0.3 1.02": ("bad-record", "its coordinate 6 is 1.02"),
}


@pytest.mark.parametrize("line", BAD_LINES)
def test_an_invalid_line_is_reported_with_its_number_and_does_not_hide_the_others(folder: Any, line: str) -> None:
    kind, observed = BAD_LINES[line]
    data = folder.yolo({"a": "1 0.5 0.5 0.5 0.5\n", "b": f"0 0.5 0.5 0.5 0.5\n\n{line}\n0 0.4 0.5 0.5 0.5\n"})
    with pytest.raises(UserError) as refused:
        open_dataset(str(data))
    assert str(refused.value).startswith(f"{folder.root}/labels/train/b.txt: line 3: {observed}, expected ")
    issues = check_dataset(str(data), ["train"])
    assert [(issue.kind, issue.count) for issue in issues] == [(kind, 1)]
    assert observed in issues[0].examples[0]


def test_a_repeated_line_is_skipped_and_reported(folder: Any) -> None:
    data = str(folder.yolo({"a": "0 0.5 0.5 0.5 0.5\n1 0.5 0.5 0.5 0.5\n0  0.5 0.5 0.5 0.5\n"}))
    messages: list[str] = []
    assert open_dataset(data, warn=messages.append)[0][1]["labels"].tolist() == [1, 2]
    assert messages == [f"{folder.root}/labels/train/a.txt: line 3: it repeats line 1 and is left out."]
    (issue,) = check_dataset(data, ["train"])
    assert (issue.kind, issue.severity, issue.count) == ("repeated-line", "warning", 1)


def test_boxes_that_cannot_be_trained_on_follow_on_bad(folder: Any) -> None:
    data = str(folder.yolo({"a": "0 0.5 0.5 0 0.5\n1 0.5 0.5 0.5 0.5\n0 0.95 0.5 0.3 0.5\n"}))
    with pytest.raises(UserError, match=r"labels/train/a\.txt: annotation 1 of image 'a\.png' .*2 of 3 boxes"):
        open_dataset(data)
    assert open_dataset(data, on_bad="skip")[0][1]["labels"].tolist() == [2]
    assert open_dataset(data, on_bad="fix")[0][1]["labels"].tolist() == [2, 1]


def test_missing_and_damaged_images_are_reported_once(folder: Any) -> None:
    data = folder.yolo({"a": "0 0.5 0.5 0.5 0.5", "b": "1 0.5 0.5 0.5 0.5", "c": "0 0.5 0.5 0.5 0.5"})
    (folder.root / "images/train/b.png").write_bytes(b"not an image")
    folder.json("train.txt", "images/train/a.png\nimages/train/b.png\nimages/train/d.png\n")
    folder.json("data.yaml", '{"train": "train.txt", "names": ["cat"]}')
    with pytest.raises(UserError, match=r"b\.png: cannot be decoded"):
        read_yolo(data, "train")
    counts = {issue.kind: issue.count for issue in check_dataset(str(data), ["train"])}
    assert (counts["image-missing"], counts["image-undecodable"]) == (1, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "does not hold keys and values"),
        ("train: [", "cannot be read as YAML"),
        ("names: [a]", "names no images"),
        ("train: images/train", "neither 'names' nor 'nc'"),
        ("train: images/train\nnames: [a, b]\nnc: 3", "'nc' is 3 but 'names' has 2 classes"),
        ("train: images/train\nnc: many", "'nc' is 'many', expected the number of classes"),
        ("train: images/train\nnames: {0: a, 2: b}", "the keys of 'names' lack 1"),
        ("train: images/train\nnames: cat", "'names' is 'cat', expected a list"),
        ("train: images/no\nnames: [a]\npath: /nowhere", "'path' is '/nowhere', and there is no such folder"),
        ("train: [[a]]\nnames: [a]", "train is"),
        ("train: images/no\nnames: [a]\ndownload: https://example.com/x.zip", r"images/no', which does not exist"),
        ("train: empty\nnames: [a]", "it holds no image"),
    ],
)
def test_an_invalid_yaml_file_is_refused(folder: Any, text: str, message: str) -> None:
    folder.yolo({"a": "0 0.5 0.5 0.5 0.5"})
    (folder.root / "empty").mkdir()
    folder.json("data.yaml", text)
    with pytest.raises(UserError, match=message):
        open_dataset(str(folder.root / "data.yaml"))


def test_a_missing_split_is_reported(folder: Any) -> None:
    data = folder.yolo({"a": "0 0.5 0.5 0.5 0.5"})
    for read in (read_yolo, open_dataset):
        with pytest.raises(UserError, match=r"no split 'trian'.*Did you mean 'train'"):
            read(str(data), "trian")


@pytest.mark.parametrize(
    ("record", "folder_name"),
    [
        ({"train": "images/train"}, "."),
        ({"path": ".", "train": "images/train"}, "."),
        ({"path": "", "train": "./images/train/"}, "."),
        ({"path": "../set", "train": "images/train"}, "."),
        ({"path": "<absolute>", "train": "images/train"}, "elsewhere"),
        ({"train": "<absolute>/images/train"}, "."),
        ({"train": "../images/train"}, "."),  # as Roboflow exports it
        ({"train": ["images/train", "images/more"]}, "."),
        ({"train": "train.txt"}, "."),
        ({"train": "images/train", "val": None, "test": ""}, "."),
    ],
)
def test_images_are_found_in_all_common_layouts(folder: Any, record: dict[str, Any], folder_name: str) -> None:
    folder.root = folder.root / "set"
    folder.yolo({"a": "0 0.5 0.5 0.5 0.5", "deep/b": "1 0.5 0.5 0.5 0.5"})
    folder.image("images/more/c.png")
    folder.json("train.txt", "./images/train/a.png\n\nimages/train/deep/b.png\n")
    absolute = str(folder.root)
    record = json.loads(json.dumps(record | {"names": ["cat", "dog"]}).replace("<absolute>", absolute))
    file = folder.json(f"{folder_name}/config.yml", yaml.safe_dump(record))
    annotations = read_yolo(file, "train")
    more = [] if "train" not in record or isinstance(record["train"], str) else ["train/"]
    names = ["a.png", "deep/b.png"]
    if more:
        names = ["train/a.png", "train/deep/b.png", "more/c.png"]
    assert annotations.file_names.tolist() == names
    assert annotations.labels.tolist() == [1, 2]
    assert all(annotations.path(index).is_file() for index in range(len(names)))
    assert tuple(read_yolo_config(file).sources) == ("train",)


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/images/a.png", "images/labels/a.txt"),  # the last folder of that name is replaced
        ("train/a.png", "labels/train/a.txt"),
        ("train/a.png", "train/a.txt"),
    ],
)
def test_labels_are_found_in_all_common_layouts(folder: Any, image: str, label: str) -> None:
    folder.image(image)
    folder.json(label, "0 0.5 0.5 0.5 0.5")
    file = folder.json("data.yaml", json.dumps({"train": str(Path(image).parent), "names": ["cat"]}))
    assert len(read_yolo(file, "train").boxes) == 1


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("names: [yes, no, 1, 07]", ("yes", "no", "1", "07")),  # YAML's own types would make True, False, 1 and 7
        ("names:\n  1: b\n  0: 'é \"x\"'", ('é "x"', "b")),
        ("nc: 2", ("class_0", "class_1")),
        ("names: [a]\nnc: 1", ("a",)),
    ],
)
def test_names_are_read_as_text(folder: Any, text: str, classes: tuple[str, ...]) -> None:
    file = folder.json("data.yaml", f"train: images/train\n{text}")
    assert read_yolo_config(file).classes == classes


def test_other_keys_that_name_images_are_splits_too(folder: Any) -> None:
    folder.yolo({"a": ""})
    file = folder.json(
        "data.yaml", "val: images/train\nmini: [images/train]\nnames: [a]\nkpt_shape: [17, 3]\nlicence: CC BY 4.0"
    )
    assert tuple(read_yolo_config(file).sources) == ("val", "mini")


def test_a_folder_with_data_yaml_is_a_data_set(folder: Any) -> None:
    folder.yolo({"a": "0 0.5 0.5 0.5 0.5"})
    dataset = open_dataset(str(folder.root))
    assert stats(dataset)["objects_per_class"] == {"cat": 1, "dog": 0}
    with pytest.raises(UserError, match=r"date\.yaml does not exist.*Did you mean 'data\.yaml'"):
        open_dataset(str(folder.root / "date.yaml"))
    (folder.root / "data.yaml").rename(folder.root / "other.yaml")
    with pytest.raises(UserError, match=r"Did you mean '.*/other\.yaml'\?"):
        open_dataset(str(folder.root))


def test_progress_counts_every_image(folder: Any) -> None:
    calls: list[tuple[int, int]] = []
    data = folder.yolo({"a": "", "b": "", "c": ""})
    open_dataset(str(data), progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_polygons_are_rasterized_to_masks(folder: Any) -> None:
    data = folder.yolo({"a": "0 0.1 0.1 0.6 0.1 0.6 0.5 0.1 0.5\n"})
    _, target = open_dataset(str(data), masks=True)[0]
    assert target["masks"][0].nonzero().amin(dim=0).tolist() == [2, 3]
    assert target["masks"].sum() == 15 * 8


def test_real_data_is_read_as_from_coco(assets: Path) -> None:
    for split in ("train", "val"):
        yolo = open_dataset(str(assets / "coco/yolo.yaml"), split)
        coco = open_dataset(str(assets / "coco"), split)
        assert yolo.classes == coco.classes
        index_of = {Path(yolo.name(index)).name: index for index in range(len(yolo))}
        for index in range(len(coco)):
            _, expected = coco[index]
            _, target = yolo[index_of[Path(coco.name(index)).name]]
            for box, label in zip(expected["boxes"], expected["labels"], strict=True):
                same = target["boxes"][target["labels"] == label]
                assert (same - box).abs().amax(dim=1).min() < 1e-3


def test_real_data_is_read_as_by_hotcoco(assets: Path, tmp_path: Path) -> None:
    annotations = read_yolo(assets / "coco/yolo.yaml", "val")
    for file in (assets / "coco/labels/val2017").iterdir():
        (tmp_path / file.name).write_text(file.read_text())
    (tmp_path / "data.yaml").write_text(yaml.safe_dump({"names": dict(enumerate(annotations.classes))}))
    oracle = COCO.from_yolo(str(tmp_path), images_dir=str(assets / "coco/val2017")).dataset
    stems = {image["id"]: Path(image["file_name"]).stem for image in oracle["images"]}
    expected = sorted((stems[row["image_id"]], row["category_id"], *row["bbox"]) for row in oracle["annotations"])
    rows = sorted(
        (Path(str(annotations.file_names[image])).stem, label, *box)
        for image, label, box in zip(
            annotations.image_indices().tolist(), annotations.labels.tolist(), annotations.boxes.tolist(), strict=True
        )
    )
    assert [row[:2] for row in rows] == [row[:2] for row in expected]
    np.testing.assert_allclose([row[2:] for row in rows], [row[2:] for row in expected], atol=1e-3)


def test_areas_of_polygons_are_those_of_their_masks(folder: Any) -> None:
    annotations = read_yolo(folder.yolo({"a": "0 0.1 0.1 0.9 0.1 0.9 0.9 0.5 0.9 0.5 0.5 0.1 0.5\n"}), "train")
    assert annotations.segmentations is not None
    assert annotations.areas[0] == pytest.approx(area(annotations.segmentations[0], 20, 30), rel=0.05)
