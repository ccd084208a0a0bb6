import json
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hotcoco import COCO
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from drfpn.data import Annotations, ShapesDataset, check_dataset, convert
from drfpn.data.formats.base_writer import relative_name
from drfpn.data.formats.layouts import find_layout
from drfpn.data.masks.rle import decode
from drfpn.data.validation.issues import raise_issue
from drfpn.utils.errors import UserError


def read(data: object, split: str = "train") -> Annotations:
    annotations = find_layout(str(data)).read(split, raise_issue)
    assert annotations is not None
    return annotations


def objects(annotations: Annotations, *, crowd: bool = True) -> dict[str, list[Any]]:
    """Return (class name, crowd, box) of the objects of each file name, in order."""
    rows: dict[str, list[Any]] = {name: [] for name in annotations.file_names.tolist()}
    for index, image in enumerate(annotations.image_indices().tolist()):
        if crowd or not annotations.crowd[index]:
            name = annotations.classes[annotations.labels[index] - 1]
            row = name, bool(annotations.crowd[index]), annotations.boxes[index]
            rows[str(annotations.file_names[image])].append(row)
    return rows


def assert_same_objects(actual: Annotations, expected: Annotations, atol: float, *, ordered: bool = True) -> None:
    actual_rows, expected_rows = objects(actual), objects(expected)
    order = list if ordered else sorted  # YOLO's folders are read in alphabetical order
    assert order(actual_rows) == order(expected_rows)
    for name, rows in expected_rows.items():
        assert_same_rows(actual_rows[name], rows, atol)


def assert_same_rows(actual: list[Any], expected: list[Any], atol: float) -> None:
    assert [row[:2] for row in actual] == [row[:2] for row in expected]
    for row, expected_row in zip(actual, expected, strict=True):
        np.testing.assert_allclose(row[2], expected_row[2], rtol=0, atol=atol)


def assert_same_masks(actual: Annotations, expected: Annotations) -> None:
    sizes = expected.sizes[expected.image_indices()].tolist()
    assert actual.segmentations is not None
    assert expected.segmentations is not None
    indices = np.flatnonzero(~expected.crowd).tolist()
    assert len(actual.segmentations) == len(indices)
    for i, index in enumerate(indices):
        mask = decode(actual.segmentations[i], *sizes[index])
        np.testing.assert_array_equal(mask, decode(expected.segmentations[index], *sizes[index]))


def round_trip(data: object, through: str, back: str, work: Path, **options: Any) -> Path:
    convert(str(data), through, work / through, **options)
    convert(str(work / through), back, work / f"{through}-{back}", **options)
    return work / f"{through}-{back}"


# The names of VOC's classes are read in alphabetical order, and only those that are used.
NAMES = ("a & b", "no", "<tag>\"'", "éclair")


@st.composite
def coco_dicts(draw: Any) -> dict[str, Any]:
    """Draw a COCO dict of images of 1 to 40 px with boxes in hundredths of a pixel."""
    names = sorted(NAMES)
    ids = sorted(draw(st.sets(st.integers(1, 90), min_size=len(names), max_size=len(names))))
    images, annotations = [], []
    for number in range(draw(st.integers(1, 3))):
        height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
        name = draw(st.sampled_from(["", "sub/", "sub/deep/"])) + f"im{number}.png"
        images.append({"id": 10 - number, "file_name": name, "height": height, "width": width})
        for _ in range(draw(st.integers(0, 3))):
            x1, x2 = sorted(draw(st.lists(st.integers(0, 100 * width), min_size=2, max_size=2, unique=True)))
            y1, y2 = sorted(draw(st.lists(st.integers(0, 100 * height), min_size=2, max_size=2, unique=True)))
            record = {"id": len(annotations) + 1, "image_id": 10 - number, "category_id": draw(st.sampled_from(ids))}
            box = [value / 100 for value in (x1, y1, x2 - x1, y2 - y1)]
            record |= {"bbox": box, "iscrowd": draw(st.integers(0, 1))}
            equal = (row for row in annotations if row["image_id"] == record["image_id"] and row["bbox"] == box)
            if not any(equal):  # YOLO holds equal objects once
                annotations.append(record)
    # Each class is used, since VOC has no list of classes.
    annotations += [
        {"id": 1000 + i, "image_id": 10, "category_id": i, "bbox": [0, 0, 1 - k / 100, 1], "iscrowd": 0}
        for k, i in enumerate(ids)
    ]
    categories = [{"id": i, "name": name} for i, name in zip(ids, names, strict=True)]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_coco(root: Path, record: dict[str, Any], split: str = "train") -> Path:
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(record))
    for image in record["images"]:
        file = root / f"{split}2017" / image["file_name"]
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (image["width"], image["height"])).save(file)
    return root


@given(coco_dicts())
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
def test_coco_is_unchanged_after_conversion_through_another_format(
    tmp_path_factory: Any, record: dict[str, Any]
) -> None:
    assume(sum(max(row["bbox"]) <= 1 for row in record["annotations"]) < 5)  # else taken for fractions of the image
    work = tmp_path_factory.mktemp("work")
    data = write_coco(work / "data", record)
    start = read(data)
    same = read(round_trip(data, "coco", "coco", work))
    assert same.to_coco() == start.to_coco()
    yolo = read(round_trip(data, "yolo", "coco", work))
    assert yolo.classes == start.classes
    if not start.crowd.any():
        assert_same_objects(yolo, start, 1e-5, ordered=False)
    folders = read(round_trip(data, "imagefolder", "coco", work))
    assert folders.classes == start.classes
    assert_same_objects(folders, start, 0)
    labelme = read(round_trip(data, "labelme", "coco", work))
    assert labelme.classes == start.classes
    if not start.crowd.any():
        assert_same_objects(labelme, start, 1e-9, ordered=False)
    voc = read(round_trip(data, "voc", "coco", work))
    assert voc.classes == start.classes
    flat = start.file_names.tolist()
    assert voc.file_names.tolist() == [name.replace("/", "_") for name in flat]
    np.testing.assert_allclose(voc.boxes, start.boxes, rtol=0, atol=1e-5)
    assert voc.labels.tolist() == start.labels.tolist()
    assert voc.crowd.tolist() == start.crowd.tolist()


@pytest.mark.parametrize("through", ["coco", "yolo"])
def test_voc_is_unchanged_after_conversion_through_another_format(folder: Any, tmp_path: Path, through: str) -> None:
    box = folder.voc_object
    difficult = box("cat", (1, 1, 30, 20), "<difficult>1</difficult>") if through == "coco" else ""
    files = {"a": box("dog", (2, 3, 11, 20)) + difficult, "b": box("cat", (4, 5, 4, 5)), "c": ""}
    folder.root = tmp_path / "data"
    data = folder.voc(files, train=["c", "a"], val=["b"], trainval=["a", "b", "c"])
    back = round_trip(data, through, "voc", tmp_path)
    for split in ("train", "val", "trainval"):
        start, end = read(data, split), read(back, split)
        assert end.classes == start.classes
        if through == "coco":
            assert_same_objects(end, start, 0)
            assert end.image_ids.tolist() == start.image_ids.tolist()
        else:  # folders of YOLO are read in alphabetical order
            assert {name: len(rows) for name, rows in objects(end).items()} == {
                name: len(rows) for name, rows in objects(start).items()
            }
    text = (back / "Annotations/a.xml").read_text()
    assert "<xmin>2</xmin>" in text
    assert "<ymax>20</ymax>" in text


def test_masks_are_unchanged_after_conversion_to_yolo(folder: Any, coco_dict: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pieces = [[1, 1, 9, 1, 9, 9], [12.5, 3, 20, 3, 20, 15.5, 12, 15]]
    runs = [7, *rng.integers(1, 9, 100).tolist()]
    runs.append(600 - sum(runs))
    coco_dict["annotations"] = [
        {"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 1, 8, 8], "segmentation": pieces},
        {"id": 2, "image_id": 7, "category_id": 3, "bbox": [1.5, 1, 4, 8], "segmentation": [[1.5, 1, 5.5, 1, 3, 9.0]]},
        {"id": 3, "image_id": 7, "category_id": 90, "bbox": [0, 0, 30, 20], "segmentation": {
            "size": [20, 30], "counts": runs}},
        {"id": 4, "image_id": 30, "category_id": 44, "bbox": [3, 4, 5, 6]},
    ]  # fmt: skip
    folder.root = tmp_path / "data"
    done = convert(folder.coco(coco_dict), "yolo", tmp_path / "yolo")
    assert done.objects == {"train": 4}
    assert any(line.startswith("objects without a segmentation that can be drawn") for line in done.lost)
    start, end = read(tmp_path / "data"), read(tmp_path / "yolo")
    # The pieces reach to x 20, the box of their object to x 9.
    shifts = "boxes that became those of their segmentations, up to 11 px apart"
    assert any(line.startswith(shifts) for line in done.lost)
    by_name = {name: index for index, name in enumerate(end.file_names.tolist())}
    image = by_name["7.png"]
    image_objects = end.object_slice(image)
    assert end.segmentations is not None
    for index, record in zip(range(image_objects.start, image_objects.stop), coco_dict["annotations"], strict=False):
        expected = decode(record["segmentation"], 20, 30)
        np.testing.assert_array_equal(decode(end.segmentations[index], 20, 30), expected)
    rectangle = end.segmentations[end.object_slice(by_name["30.png"]).start]
    np.testing.assert_allclose(rectangle, [[3, 4, 8, 4, 8, 10, 3, 10]], atol=1e-5)
    assert start.classes == end.classes
    thin = {"id": 9, "image_id": 7, "category_id": 3, "bbox": [1, 1, 2, 2], "segmentation": [[1, 1, 1, 5, 1, 9]]}
    coco_dict["annotations"].append(thin)
    convert(folder.coco(coco_dict), "yolo", tmp_path / "thin")
    assert read(tmp_path / "thin").boxes[:, 2:].min() > 1
    plain = convert(folder.coco(coco_dict), "yolo", tmp_path / "boxes", masks=False)
    assert not any("polygon" in line for line in plain.lost)
    assert read(tmp_path / "boxes").segmentations is None


def test_segmentations_are_unchanged_after_conversion_to_labelme(folder: Any, coco_dict: Any, tmp_path: Path) -> None:
    pieces = [[1, 1, 9, 1, 9, 9], [12.5, 3, 20, 3, 20, 15.5, 12, 15]]
    runs = {"size": [20, 30], "counts": [45, 3, 17, 3, 532]}
    coco_dict["annotations"] = [
        {"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 1, 19, 14.5], "segmentation": pieces},
        {"id": 2, "image_id": 7, "category_id": 3, "bbox": [2, 5, 2, 3], "segmentation": runs},
        {"id": 3, "image_id": 7, "category_id": 90, "bbox": [1, 1, 2, 2]},
        {"id": 4, "image_id": 7, "category_id": 90, "bbox": [1, 1, 19, 9], "segmentation": pieces},
        {"id": 5, "image_id": 30, "category_id": 44, "bbox": [1, 1, 2, 2], "iscrowd": 1},
    ]
    folder.root = tmp_path / "data"
    done = convert(folder.coco(coco_dict), "labelme", tmp_path / "labelme")
    assert set(done.lost) == {
        "crowds left out, since LabelMe has none: 1",
        "boxes that became those of their segmentations, up to 5.5 px apart (`masks=False` keeps them): 1",
        "the order of the classes is lost: LabelMe's are read in alphabetical order",
    }
    end = read(tmp_path / "labelme")
    assert end.boxes.tolist() == [[1, 1, 19, 14.5], [2, 5, 2, 3], [1, 1, 2, 2], [1, 1, 19, 14.5]]
    assert end.segmentations is not None
    assert end.segmentations[0] == pieces
    np.testing.assert_array_equal(decode(end.segmentations[1], 20, 30), decode(runs, 20, 30))
    assert end.segmentations[2] is None


def test_information_that_a_format_cannot_represent_is_reported(folder: Any, coco_dict: Any, tmp_path: Path) -> None:
    folder.root = tmp_path / "data"
    coco_dict["categories"].append({"id": 91, "name": "brush"})
    coco_dict["annotations"].append({"id": 20, "image_id": 7, "category_id": 3, "bbox": [-0.5, 1, 5, 5]})
    data = folder.coco(coco_dict)
    assert convert(data, "coco", tmp_path / "coco").lost == ()
    assert set(convert(data, "yolo", tmp_path / "yolo", masks=False).lost) == {
        "crowds left out, since YOLO has none: 1",
        "boxes cut that reached out of their image by up to 1 px: 1",
        "the ids of the classes are lost: YOLO numbers them from 0",
    }
    assert set(convert(data, "voc", tmp_path / "voc").lost) == {
        "segmentations left out, since VOC's XML has boxes only: 2",
        "crowds marked difficult: 1",
        "boxes cut that reached out of their image by up to 1 px: 1",
        "classes left out, since no object has them (brush): 1",
        "the order of the classes is lost: VOC's are read in alphabetical order",
    }
    assert "pose, truncated" in convert(str(tmp_path / "voc"), "coco", tmp_path / "again").lost[0]


@pytest.mark.parametrize(("how", "linked"), [("copy", False), ("hardlink", False), ("symlink", True)])
def test_images_are_copied_or_linked(folder: Any, coco_dict: Any, tmp_path: Path, how: str, linked: bool) -> None:
    folder.root = tmp_path / "data"
    data = folder.coco(coco_dict)
    convert(data, "yolo", tmp_path / "out", images=how)
    original, image = tmp_path / "data/train2017/7.png", tmp_path / "out/images/train/7.png"
    assert image.read_bytes() == original.read_bytes()
    assert image.is_symlink() is linked
    assert image.samefile(original) is (how != "copy")


def test_equal_names_are_made_unique(folder: Any, coco_dict: Any, tmp_path: Path) -> None:
    folder.root = tmp_path / "data"
    for image, name in zip(coco_dict["images"], ("x/a b.png", "x_a_b.jpg", "x/a b.bmp"), strict=True):
        image["file_name"] = name
    data = folder.coco(coco_dict)
    folder.coco(coco_dict, "val")
    for image in (tmp_path / "data/val2017").rglob("*.*"):
        Image.new("RGB", (30, 20)).save(image)  # or they would be taken for the same images
    done = convert(data, "voc", tmp_path / "voc")
    assert any(line.startswith("images renamed") and line.endswith(": 6") for line in done.lost)
    names = [*read(tmp_path / "voc").file_names.tolist(), *read(tmp_path / "voc", "val").file_names.tolist()]
    assert names == ["x_a_b.png", "x_a_b_2.jpg", "x_a_b_3.bmp", "x_a_b_4.png", "x_a_b_5.jpg", "x_a_b_6.bmp"]
    np.testing.assert_allclose(read(tmp_path / "voc").boxes, read(data).boxes)
    convert(data, "yolo", tmp_path / "yolo", masks=False)
    assert set(read(tmp_path / "yolo").file_names.tolist()) == {"x/a b.png", "x_a_b.jpg", "x/a b_2.bmp"}
    counts = {name: len(rows) for name, rows in objects(read(tmp_path / "yolo")).items()}
    assert counts == {"x/a b.png": 1, "x_a_b.jpg": 0, "x/a b_2.bmp": 1}


def test_an_image_with_other_objects_in_another_split_keeps_both(folder: Any, coco_dict: Any, tmp_path: Path) -> None:
    folder.root = tmp_path / "data"
    for image in coco_dict["images"]:
        folder.image(f"images/{image['file_name']}")
    folder.json("annotations/train.json", coco_dict)
    coco_dict["annotations"][0]["bbox"] = [2, 3, 4, 5]  # in 12.png
    folder.json("annotations/val.json", coco_dict)
    convert(str(folder.root), "voc", tmp_path / "voc")
    assert sorted(path.name for path in (tmp_path / "voc/JPEGImages").iterdir()) == [
        *("12.png", "12_2.png", "30.png", "7.png")
    ]
    np.testing.assert_allclose(read(tmp_path / "voc", "val").boxes[-1], [2, 3, 4, 5])
    np.testing.assert_allclose(read(tmp_path / "voc", "train").boxes[-1], [1.5, 2, 3.25, 4])


def test_names_do_not_lead_out_of_the_new_folder() -> None:
    assert [str(relative_name(name)) for name in ("../../a.png", "/etc/a.png", "b\\a.png", "./b/a.png")] == [
        *("a.png", "a.png", "b/a.png", "b/a.png")
    ]


@pytest.mark.parametrize("to", ["coco", "voc", "yolo", "labelme", "imagefolder"])
def test_shapes_can_be_written(tmp_path: Path, to: str) -> None:
    done = convert("shapes", to, tmp_path / "out", max_images=3)
    assert done.images == {"train": 3, "val": 3, "test": 3}
    dataset = ShapesDataset("val", 3)
    written = read(tmp_path / "out", "val")
    labels = [record["category_id"] for record in dataset.ground_truth()["annotations"]]
    boxes = [record["bbox"] for record in dataset.ground_truth()["annotations"]]
    assert [written.classes[label - 1] for label in written.labels] == [dataset.classes[i - 1] for i in labels]
    np.testing.assert_allclose(written.boxes, boxes, rtol=0, atol=1e-5)
    image = np.asarray(Image.open(written.path(2)))
    np.testing.assert_array_equal(image, dataset[2][0].permute(1, 2, 0).numpy())
    if to not in ("voc", "imagefolder"):
        for index, image_index in enumerate(written.image_indices().tolist()):
            height, width = dataset.sizes()[image_index].tolist()
            assert written.segmentations is not None
            mask = decode(written.segmentations[index], height, width)
            expected = dataset.ground_truth()["annotations"][index]["segmentation"]
            np.testing.assert_array_equal(mask, decode(expected, height, width))
    errors = [issue.kind for issue in check_dataset(str(tmp_path / "out")) if issue.severity == "error"]
    assert errors == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record["annotations"][0].update(bbox=[1, 1, -5, 5]), "`on_bad='skip'`"),
        (lambda record: record["images"][0].update(width=40), r"30\.png: the image is 30 x 20 px, expected 40 x 20"),
        (lambda record: record["categories"][0].update(name="\x01"), "cannot be written to VOC's XML"),
        (lambda record: record["categories"][0].update(name=" "), "cannot be written to VOC's XML"),
        (lambda record: record["categories"][0].update(name=" car"), "Two classes have the same name"),
        (
            lambda record: record["images"][0].update(file_name="30.xyz"),
            "has the suffix '.xyz', expected one by which",
        ),
        (lambda record: record["images"][0].update(file_name="gone.png"), r"gone\.png is missing"),
    ],
)
def test_nothing_is_left_after_a_failure(
    folder: Any, coco_dict: Any, tmp_path: Path, change: Any, message: str
) -> None:
    folder.root = tmp_path / "data"
    data = folder.coco(coco_dict)
    change(coco_dict)
    folder.json("annotations/instances_train2017.json", coco_dict)
    with pytest.raises(UserError, match=message):
        convert(data, "voc", tmp_path / "new/deep/out")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_bad_boxes_can_be_skipped(folder: Any, coco_dict: Any, tmp_path: Path) -> None:
    folder.root = tmp_path / "data"
    coco_dict["annotations"][0]["bbox"] = [1, 1, -5, 5]
    done = convert(folder.coco(coco_dict), "yolo", tmp_path / "out", on_bad="skip")
    assert "dropped 1 box " in done.lost[0]
    assert done.objects == {"train": 2}


def test_a_folder_with_files_is_not_changed(folder: Any, coco_dict: Any, tmp_path: Path) -> None:
    folder.root = tmp_path / "data"
    data = folder.coco(coco_dict)
    (tmp_path / "empty").mkdir()
    convert(data, "yolo", tmp_path / "empty")
    before = sorted(tmp_path.rglob("*"))
    for out in (tmp_path / "empty", tmp_path / "data/train2017/7.png"):
        with pytest.raises(UserError, match="is not an empty folder"):
            convert(data, "coco", out)
    assert sorted(tmp_path.rglob("*")) == before


def test_splits_with_other_classes_are_refused(folder: Any, coco_dict: Any, tmp_path: Path) -> None:
    folder.root = tmp_path / "data"
    folder.coco(coco_dict)
    coco_dict["categories"][0]["name"] = "tooth brush"
    with pytest.raises(UserError, match="classes of train and val differ"):
        convert(folder.coco(coco_dict, "val"), "yolo", tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "yol"}, "Did you mean 'yolo'"),
        ({"transfer": "link"}, "one of copy, hardlink, symlink"),
        ({"on_bad": "ignore"}, "'error', 'skip' or 'fix'"),
    ],
)
def test_unknown_options_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        convert("shapes", options.pop("to", "coco"), tmp_path / "out", **options)


def test_progress_counts_every_image(folder: Any, coco_dict: Any, tmp_path: Path) -> None:
    folder.root = tmp_path / "data"
    calls: list[tuple[str, int, int]] = []

    @contextmanager
    def progress_bar(title: str):
        yield lambda done, total: calls.append((title, done, total))

    convert(folder.coco(coco_dict), "yolo", tmp_path / "out", progress_bar=progress_bar)
    assert calls == [("writing images", done, 3) for done in (1, 2, 3)]
    calls.clear()
    convert(str(tmp_path / "out"), "coco", tmp_path / "back", progress_bar=progress_bar)
    assert calls == [(title, done, 3) for title in ("reading train", "writing images") for done in (1, 2, 3)]


def test_yolo_is_read_as_by_hotcoco(folder: Any, coco_dict: Any, tmp_path: Path) -> None:
    folder.root = tmp_path / "data"
    convert(folder.coco(coco_dict), "yolo", tmp_path / "out", masks=False)
    labels = tmp_path / "out/labels/train"
    (labels / "data.yaml").write_bytes((tmp_path / "out/data.yaml").read_bytes())
    oracle = COCO.from_yolo(str(labels), images_dir=str(tmp_path / "out/images/train")).dataset
    annotations = read(tmp_path / "out")
    assert [category["name"] for category in oracle["categories"]] == list(annotations.classes)
    boxes = sorted(map(tuple, annotations.boxes.tolist()))
    expected = sorted(tuple(row["bbox"]) for row in oracle["annotations"])
    np.testing.assert_allclose(boxes, expected, atol=1e-4)


def test_voc_is_read_as_by_hotcoco(folder: Any, coco_dict: Any, tmp_path: Path) -> None:
    folder.root = tmp_path / "data"
    convert(folder.coco(coco_dict), "voc", tmp_path / "out")
    oracle = COCO.from_voc(str(tmp_path / "out/Annotations")).dataset
    annotations = read(tmp_path / "out")
    assert sorted(category["name"] for category in oracle["categories"]) == list(annotations.classes)
    assert {image["file_name"] for image in oracle["images"]} == set(annotations.file_names.tolist())
    assert len(oracle["annotations"]) == len(annotations.boxes)


@pytest.mark.parametrize(("through", "atol"), [("coco", 0), ("voc", 1e-5), ("yolo", 1e-3)])
def test_real_coco_data_is_unchanged(assets: Path, tmp_path: Path, through: str, atol: float) -> None:
    back = round_trip(assets / "coco", through, "coco", tmp_path, masks=through == "coco", images="symlink")
    for split in ("train", "val"):
        start, end = read(assets / "coco", split), read(back, split)
        if through == "yolo":  # without crowds, and in the order of the names
            end_rows, start_rows = objects(end), objects(start, crowd=False)
            assert sorted(start_rows) == list(end_rows)
            assert end.classes == start.classes
            for name, rows in start_rows.items():
                assert_same_rows(end_rows[name], rows, atol)
        else:
            assert_same_objects(end, start, atol)


def test_real_masks_are_unchanged_after_conversion_to_yolo(assets: Path, tmp_path: Path) -> None:
    convert(str(assets / "coco"), "yolo", tmp_path / "out", images="symlink")
    start, end = read(assets / "coco"), read(tmp_path / "out")
    assert end.file_names.tolist() == start.file_names.tolist()  # the data is sorted by name
    assert_same_masks(end, start)


@pytest.mark.parametrize("through", ["coco", "yolo"])
def test_real_voc_data_is_unchanged(assets: Path, tmp_path: Path, through: str) -> None:
    back = round_trip(assets / "voc", through, "voc", tmp_path, images="symlink")
    for split in ("train", "val", "test"):
        start, end = read(assets / "voc", split), read(back, split)
        assert_same_objects(end, start, 1e-5, ordered=False)


def with_names(folder: Any, *names: str, class_name: str = "cat") -> str:
    """Write COCO's layout with one object in each image."""
    images = [{"id": i, "file_name": name, "height": 20, "width": 30} for i, name in enumerate(names, start=1)]
    objects = [{"id": i, "image_id": i, "category_id": 1, "bbox": [1, 2, 3 + i, 4]} for i in range(1, len(names) + 1)]
    data = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": class_name}]}
    return str(folder.coco(data))


@pytest.mark.parametrize("name", ["images/a.png", "Labels/a.png", ".h.png", "._a.png", ".d/c.png", "Thumbs.db/d.png"])
@pytest.mark.parametrize("to", ["labelme", "yolo", "imagefolder"])
def test_names_that_readers_would_pass_over_are_changed(folder: Any, tmp_path: Path, to: str, name: str) -> None:
    data = with_names(folder, name, "b.png")
    lost = convert(data, to, tmp_path / "out").lost
    back = read(tmp_path / "out", find_layout(str(tmp_path / "out")).splits[0])
    assert sorted(back.boxes[:, 2].round(3).tolist()) == [4, 5]
    assert any("renamed" in line for line in lost) == (to == "labelme" or "." in name.split("/")[0])


@pytest.mark.parametrize("to", ["voc", "labelme", "imagefolder"])
def test_names_that_are_not_utf8_are_refused(folder: Any, tmp_path: Path, to: str) -> None:
    data = with_names(folder, "a\udcff.png")
    with pytest.raises(UserError, match="is not UTF-8, expected a name that the format can hold"):
        convert(data, to, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_labelme_refuses_a_class_without_a_name(folder: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="A class has an empty name, which LabelMe cannot hold"):
        convert(with_names(folder, "a.png", class_name=" "), "labelme", tmp_path / "out")
