import json
from pathlib import Path
from typing import Any

import pytest

from drfpn.data import check_dataset, convert, open_dataset
from drfpn.data.formats.coco_layouts import find_coco_layout, is_coco_file
from drfpn.data.formats.layouts import find_layout
from drfpn.data.formats.split_names import name_splits
from drfpn.utils.errors import UsageError, UserError

SPLITS = {"train": ("a", "b"), "val": ("c",)}


def coco_of(stems: tuple[str, ...], prefix: str = "") -> dict[str, Any]:
    images = [{"id": i, "file_name": f"{prefix}{stem}.png", "height": 20, "width": 30} for i, stem in enumerate(stems)]
    objects = [{"id": i + 1, "image_id": i, "category_id": 0, "bbox": [3, 4, 5, 6]} for i in range(len(stems))]
    return {"images": images, "annotations": objects, "categories": [{"id": 0, "name": "bolt"}]}


LAYOUTS: dict[str, dict[str, tuple[str, str]]] = {
    "COCO": {s: (f"annotations/instances_{s}2017.json", f"{s}2017") for s in SPLITS},
    "COCO of 2014": {s: (f"annotations/instances_{s}2014.json", f"{s}2014") for s in SPLITS},
    "CVAT": {
        "train": ("annotations/instances_Train.json", "images/Train"),
        "val": ("annotations/instances_Validation.json", "images/Validation"),
    },
    "CVAT without subfolders": {s: (f"annotations/instances_{s}.json", "images") for s in SPLITS},
    "Roboflow": {
        "train": ("train/_annotations.coco.json", "train"),
        "val": ("valid/_annotations.coco.json", "valid"),
    },
    "keypoints": {s: (f"annotations/person_keypoints_{s}2017.json", f"{s}2017") for s in SPLITS},
    "folders of splits": {s: (f"annotations/{s}.json", s) for s in SPLITS},
    "images below images": {s: (f"annotations/{s}.json", f"images/{s}") for s in SPLITS},
    "a file in each folder": {
        "train": ("Training/annotations.json", "Training"),
        "val": ("val/labels.json", "val/data"),
    },
    "files beside the images": {s: (f"{s}.json", "images") for s in SPLITS},
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout_is_read(folder: Any, name: str) -> None:
    for split, (file, images) in LAYOUTS[name].items():
        folder.json(file, coco_of(SPLITS[split]))
        for stem in SPLITS[split]:
            folder.image(f"{images}/{stem}.png")
    data = str(folder.root)
    layout = find_layout(data)
    assert set(layout.splits) == set(SPLITS)
    for split, (_, images) in LAYOUTS[name].items():
        dataset = open_dataset(data, split)
        assert [Path(dataset.name(i)).stem for i in range(len(dataset))] == list(SPLITS[split])
        assert layout.image_folders(split) == (folder.root / images,)
        assert dataset[0][1]["boxes"].tolist() == [[3, 4, 8, 10]]
    assert not [issue for issue in check_dataset(data) if issue.severity == "error"]


def test_only_split_of_cvat_is_called_default(folder: Any) -> None:
    folder.json("annotations/instances_default.json", coco_of(("a",)))
    folder.image("images/default/a.png")
    assert find_layout(str(folder.root)).splits == ("default",)
    assert len(open_dataset(str(folder.root), "default")) == 1
    with pytest.raises(UserError, match="no split 'train', expected one that is there: default"):
        open_dataset(str(folder.root))


def test_two_files_of_a_split_are_refused(folder: Any) -> None:
    for name in ("train/annotations.json", "train/old.json", "val/annotations.json"):
        folder.json(name, coco_of(("a",)))
    with pytest.raises(UserError, match=r"train has several files of COCO \(annotations\.json, old\.json\)"):
        find_layout(str(folder.root))


def test_label_studio_is_read(folder: Any) -> None:
    folder.json("result.json", coco_of(("a", "b"), "images\\"))
    for stem in "ab":
        folder.image(f"images/{stem}.png")
    dataset = open_dataset(str(folder.root), "all")
    assert dataset.name(1) == str(folder.root / "images/b.png")


@pytest.mark.parametrize("split", ["val", "valid", "Validation", "VAL"])
def test_split_is_found_by_its_synonyms(folder: Any, split: str) -> None:
    folder.json("valid/_annotations.coco.json", coco_of(("c",)))
    folder.image("valid/c.png")
    assert len(open_dataset(str(folder.root), split)) == 1


def test_names_of_several_folders_for_one_split_stay() -> None:
    assert name_splits(["Train", "valid", "val", "extra"]) == {
        "train": "Train",
        "valid": "valid",
        "val": "val",
        "extra": "extra",
    }


def test_instances_come_before_keypoints_and_other_files(folder: Any) -> None:
    for kind in ("instances", "person_keypoints", "captions"):
        folder.json(f"annotations/{kind}_train2017.json", coco_of(("a",)))
    folder.json("annotations/other.json", coco_of(("a",)))
    (file,) = find_layout(str(folder.root)).files.values()  # type: ignore[attr-defined]
    assert file.annotations.name == "instances_train2017.json"


def test_files_of_labelme_in_annotations_are_no_splits(folder: Any) -> None:
    folder.json("annotations/a.json", '{"version": "5", "shapes": [], "imagePath": "a.png"}')
    assert find_coco_layout(folder.root) is None
    folder.json("annotations/train.json", "{")
    assert find_layout(str(folder.root)).splits == ("train",)


class TestFileByName:
    @pytest.fixture
    def file(self, folder: Any) -> Path:
        folder.image("photos/a.png")
        return folder.json("annotations.json", coco_of(("a",)))

    def test_images_are_in_the_folder_given(self, file: Path, folder: Any) -> None:
        dataset = open_dataset(str(file), "all", images=str(folder.root / "photos"))
        assert dataset[0][1]["boxes"].tolist() == [[3, 4, 8, 10]]

    @pytest.mark.parametrize("beside", ["images/a.png", "a.png"])
    def test_images_beside_the_file_need_no_name(self, file: Path, folder: Any, beside: str) -> None:
        folder.image(beside)
        assert open_dataset(str(file), "all").name(0) == str(folder.root / beside)

    def test_all_commands_take_the_folder(self, file: Path, folder: Any) -> None:
        images = str(folder.root / "photos")
        assert not {i.kind for i in check_dataset(str(file), ["all"], images=images) if i.severity == "error"}
        convert(str(file), "yolo", folder.root / "out", images=images)
        assert len(list((folder.root / "out").rglob("a.png"))) == 1

    def test_folder_that_does_not_exist_is_refused(self, file: Path) -> None:
        with pytest.raises(UsageError, match="`images` is 'nowhere', which does not exist"):
            open_dataset(str(file), "all", images="nowhere")

    def test_images_without_those_of_the_file_are_refused(self, file: Path, folder: Any) -> None:
        (folder.root / "other").mkdir()
        with pytest.raises(UserError, match=r"other holds none of the first 1 images"):
            open_dataset(str(file), "all", images=str(folder.root / "other"))

    def test_layout_with_folders_of_its_own_takes_none(self, folder: Any) -> None:
        data = folder.yolo({"a": "0 0.5 0.5 0.5 0.5"})
        with pytest.raises(UsageError, match="expected no `images`"):
            open_dataset(str(data), images=str(folder.root))

    def test_former_name_of_the_transfer_is_accepted(self, file: Path, folder: Any) -> None:
        folder.image("images/a.png")
        convert(str(file), "yolo", folder.root / "out", images="hardlink")
        (written,) = (folder.root / "out").rglob("a.png")
        assert written.samefile(folder.root / "images/a.png")


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("sub/train/_annotations.coco.json", r"Found 'sub/train/_annotations.coco.json': Roboflow's COCO"),
        ("x/instances_default.json", r"Found 'x/instances_default.json': COCO"),
        ("train/metadata.jsonl", r"Found 'train/metadata.jsonl': Hugging Face's ImageFolder"),
        ("via.json", r"Found 'via.json': a project of VIA"),
        ("ds/ann/a.jpg.json", r"Found 'ds/ann/a.jpg.json': Supervisely"),
        ("data/train-0001.parquet", r"Found 'data/train-0001.parquet': a data set of Hugging Face in Parquet"),
    ],
)
def test_refusal_names_what_is_half_there(folder: Any, file: str, message: str) -> None:
    folder.json(file, "{}")
    with pytest.raises(UserError, match=message):
        find_layout(str(folder.root))


def test_coco_is_recognized_by_its_lists(tmp_path: Path) -> None:
    texts = {
        '{"images": []}': True,
        '{"info": {}, "annotations" : [': True,
        '{"shapes": [], "imagePath": "a"}': False,
        '{"categories": [{"id": 0, "name": "a"}], "info": {}}': False,  # notes.json of Label Studio
    }
    for number, (text, expected) in enumerate(texts.items()):
        file = tmp_path / f"{number}.json"
        file.write_text(text)
        assert is_coco_file(file) == expected
    assert not is_coco_file(tmp_path / "none.json")
    (tmp_path / "bom.json").write_text(json.dumps({"images": []}), encoding="utf-8-sig")
    assert is_coco_file(tmp_path / "bom.json")
