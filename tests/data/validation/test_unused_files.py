import os
from pathlib import Path
from typing import Any

import pytest

from drfpn.data.image_formats import IMAGE_SUFFIXES
from drfpn.data.validation.check import inspect_dataset


def examples(data: object, kind: str) -> dict[str, str]:
    """Return what was observed by name of the file, for all issues of one kind."""
    issues = [issue for issue in inspect_dataset(str(data)).issues if issue.kind == kind]
    assert sum(issue.count for issue in issues) == sum(len(issue.examples) for issue in issues)
    return {Path(e.partition(": ")[0]).name: e.partition(": ")[2] for issue in issues for e in issue.examples}


def link(target: Path, path: Path) -> None:
    try:
        os.symlink(target, path)
    except OSError:
        pytest.skip("this file system has no symbolic links")


@pytest.fixture
def coco(folder: Any, coco_dict: Any) -> str:
    folder.coco(coco_dict, "val")
    return folder.coco(coco_dict)


def test_files_that_are_all_used_are_no_issue(coco: str, folder: Any) -> None:
    for name in ("._30.png", "Thumbs.db", ".ipynb_checkpoints/30.png"):
        path = folder.root / "train2017" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    assert not examples(coco, "unused-image")


def test_an_image_that_no_annotation_names_is_listed(coco: str, folder: Any) -> None:
    folder.image("train2017/new.png")
    folder.image("train2017/sub/deep.jfif", format="JPEG")
    observed = examples(coco, "unused-image")
    assert observed == dict.fromkeys(["new.png", "deep.jfif"], "no annotation or list names it")
    assert inspect_dataset(coco).conclusion.not_used["images without a record"] == 2


def test_images_of_other_splits_in_the_same_folder_are_used(folder: Any) -> None:
    box = folder.voc_object("cat", (2, 3, 10, 12))
    files = dict.fromkeys("abcd", box)
    data = folder.voc(files, train=["a"], val=["b"], extra=["c"])
    assert set(examples(data, "unused-image")) == {"d.jpg"}


def test_test_images_without_annotations_are_used(folder: Any, coco_dict: Any, coco: str) -> None:
    for split in ("test", "test-dev"):
        images = [{"id": 1, "file_name": f"{split}.png", "height": 20, "width": 30}]
        folder.json(
            f"annotations/image_info_{split}2017.json", {"images": images, "categories": coco_dict["categories"]}
        )
        folder.image(f"test2017/{split}.png")
    assert not examples(coco, "unused-image")


def test_reasons_name_what_is_wrong_with_a_file(coco: str, folder: Any, coco_dict: Any) -> None:
    coco_dict["images"][0]["file_name"] = "my photo.png"
    folder.json("annotations/instances_train2017.json", coco_dict)
    folder.image("train2017/my-photo.png")
    (folder.root / "train2017/phone.jxl").write_bytes(b"\xff\x0a")
    folder.image("train2017/bare", format="PNG")
    (folder.root / "train2017/README").write_text("text")
    link(folder.root / "none.png", folder.root / "train2017/broken.png")
    observed = examples(coco, "unused-image")
    assert observed["my-photo.png"] == "no annotation names it; one names 'my photo.png', which does not exist"
    assert observed["broken.png"].startswith("it is a link to")
    assert observed["bare"] == "its name has no suffix of an image, and no annotation names it"
    if ".jxl" not in IMAGE_SUFFIXES:
        assert observed["phone.jxl"].startswith("'.jxl' cannot be decoded here; 'pip install pillow-jxl-plugin'")
    assert "README" not in observed


def test_images_in_linked_folders_are_found(folder: Any, coco_dict: Any, coco: str, tmp_path: Path) -> None:
    folder.image("elsewhere/a.png")
    folder.image("elsewhere/b.png")
    link(folder.root / "elsewhere", folder.root / "train2017/linked")
    coco_dict["images"].append({"id": 99, "file_name": "linked/a.png", "height": 20, "width": 30})
    folder.json("annotations/instances_train2017.json", coco_dict)
    assert set(examples(coco, "unused-image")) == {"b.png"}


def yolo(folder: Any, **labels: str) -> Path:
    data = folder.yolo({"a": "0 0.5 0.5 0.2 0.2\n", "my photo": None})
    folder.image("images/val/v.png")
    folder.json("labels/val/v.txt", "0 0.5 0.5 0.2 0.2\n")
    folder.json("data.yaml", {"train": "images/train", "val": "images/val", "names": ["cat", "dog"]})
    for name, text in labels.items():
        folder.json(f"labels/train/{name}.txt", text)
    return data


def test_labels_without_an_image_are_listed(folder: Any) -> None:
    data = yolo(folder, gone="0 0.5 0.5 0.2 0.2\n")
    assert examples(data, "unused-label") == {"gone.txt": "there is no image of its name"}


@pytest.mark.parametrize("name", ["my_photo", "My-photo", "my%20photo"])
def test_a_label_that_is_only_spelled_otherwise_is_an_error(folder: Any, name: str) -> None:
    data = yolo(folder, **{name: "1 0.5 0.5 0.2 0.2\n"})
    report = inspect_dataset(str(data))
    assert [issue.kind for issue in report.issues if issue.severity == "error"] == ["label-name-differs"]
    assert "'my photo.png' has no annotation file" in report.conclusion.text


def test_a_split_that_cannot_be_read_hides_no_other_issue_and_flags_no_image(folder: Any, coco_dict: Any) -> None:
    folder.coco(coco_dict, "val")
    data = folder.coco(coco_dict)
    folder.json("annotations/instances_train2017.json", "{")
    kinds = {issue.kind for issue in inspect_dataset(data).issues}
    assert "not-coco" in kinds
    assert "unused-image" not in kinds
