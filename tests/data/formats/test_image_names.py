import unicodedata
from pathlib import Path
from typing import Any

import pytest

from drfpn.data import check_dataset, open_dataset
from drfpn.data.formats.image_names import ImageFinder, choose_folder
from drfpn.utils.errors import UserError


@pytest.fixture
def images(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    for name in ("sub/a.jpg", "my photo #1.jpg", "c.jpg", "f.jpg", "Sub2/G.PNG", unicodedata.normalize("NFD", "ü.jpg")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("sub\\a.jpg", "sub/a.jpg"),
        ("my%20photo%20%231.jpg", "my photo #1.jpg"),
        ("images/c.jpg", "c.jpg"),
        ("images\\sub\\a.jpg", "sub/a.jpg"),
        ("/data/local/images/c.jpg", "c.jpg"),
        ("./c.jpg", "c.jpg"),
        ("/c.jpg", "c.jpg"),
        ("F.JPG", "f.jpg"),
        ("sub2/g.png", "Sub2/G.PNG"),
        (unicodedata.normalize("NFC", "ü.jpg"), unicodedata.normalize("NFD", "ü.jpg")),
    ],
)
def test_a_changed_name_is_found(images: Path, name: str, found: str) -> None:
    assert ImageFinder(images).find(name) == [found]


@pytest.mark.parametrize("name", ["d.jpg", "../images/d.jpg", "sub/c.jpg", "a.jpg", "", "/"])
def test_other_names_are_not_found(images: Path, name: str) -> None:
    assert ImageFinder(images).find(name) == []
    assert not ImageFinder(images / "missing").find(name)


def test_names_are_compared_exactly(images: Path) -> None:
    finder = ImageFinder(images)
    assert all(map(finder.exists, ("c.jpg", "sub/a.jpg", "../images/c.jpg", str(images / "c.jpg"))))
    assert not any(map(finder.exists, ("C.jpg", "a.jpg", "sub\\a.jpg")))


def test_several_files_are_all_returned(images: Path) -> None:
    (images / "F.jpg").touch()
    assert ImageFinder(images).find("F.JPG") == ["F.jpg", "f.jpg"]


def test_folder_with_the_images_is_chosen(images: Path, tmp_path: Path) -> None:
    folders = [tmp_path / "none", tmp_path, images]
    assert choose_folder(folders, ["x.jpg", "c.jpg"]) == images
    assert choose_folder(folders, ["images/c.jpg"]) == tmp_path
    assert choose_folder(folders, ["x.jpg"]) is None


def coco_of(*names: str) -> dict[str, Any]:
    images = [{"id": i, "file_name": name, "height": 20, "width": 30} for i, name in enumerate(names, start=1)]
    objects = [{"id": i, "image_id": i, "category_id": 1, "bbox": [i, 2, 9, 9]} for i in range(1, len(names) + 1)]
    return {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "bolt"}]}


def test_data_set_with_changed_names_is_read_with_a_word(folder: Any) -> None:
    for name in ("sub/a.png", "b c.png", "d.png"):
        folder.image(f"images/{name}")
    folder.json("annotations/train.json", coco_of("sub\\a.png", "b%20c.png", "d.png"))
    lines: list[str] = []
    dataset = open_dataset(str(folder.root), warn=lines.append)
    assert [Path(dataset.name(i)).name for i in range(3)] == ["a.png", "b c.png", "d.png"]
    assert [dataset[i][1]["boxes"][0, 0].item() for i in range(3)] == [1, 2, 3]
    assert "2 of 3 images have another name on disk: 'sub\\a.png' is 'sub/a.png'" in lines[0]


def test_ambiguous_name_is_an_error_that_names_the_record(folder: Any) -> None:
    for name in ("a.png", "A.png", "images/b.png"):
        folder.image(f"images/{name}")
    folder.json("annotations/train.json", coco_of("images/b.png", "A.PNG"))
    with pytest.raises(UserError, match=r"image 'A\.PNG' \(id 2\): several files in .* \(A\.png, a\.png\)"):
        open_dataset(str(folder.root))
    assert "image-ambiguous" in {issue.kind for issue in check_dataset(str(folder.root), ["train"])}


def test_missing_file_is_reported_under_its_name(folder: Any) -> None:
    folder.image("images/a.png")
    folder.json("annotations/train.json", coco_of("a.png", "sub\\b.png"))
    issues = {issue.kind: issue for issue in check_dataset(str(folder.root), ["train"])}
    assert "sub\\b.png" in issues["image-missing"].examples[0]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("../../label-studio/data/media/1/g.png", "Sub2/G.PNG"),
        ("https://bucket/x/my%20photo%20%231.jpg?sig=1", "my photo #1.jpg"),
        ("a.jpg", "sub/a.jpg"),
    ],
)
def test_the_only_file_of_a_base_name_is_found(images: Path, name: str, found: str) -> None:
    assert ImageFinder(images).find_bases([name], set()) == {name: [found]}


@pytest.mark.parametrize("other", ["val/c.jpg", "val2017/c.jpg", "masks/c.jpg", "SegmentationClass/c.jpg"])
def test_files_of_another_split_or_masks_are_not_taken_for_images(tmp_path: Path, other: str) -> None:
    (tmp_path / other).parent.mkdir()
    (tmp_path / other).touch()
    assert ImageFinder(tmp_path).find_bases(["c.jpg"], set()) == {}


def test_a_base_name_that_several_have_is_not_found(images: Path) -> None:
    finder = ImageFinder(images)
    assert finder.find_bases(["x/a.jpg", "y/a.jpg"], set()) == {}
    assert finder.find_bases(["x/a.jpg"], {"sub/a.jpg"}) == {}
    (images / "Sub2/a.jpg").touch()
    assert finder.find_bases(["x/a.jpg"], set()) == {}


def test_images_in_subfolders_of_another_tool_are_opened_with_a_word(folder: Any, coco_dict: Any) -> None:
    data = folder.coco(coco_dict)
    coco_dict["images"][0]["file_name"] = "../../media/upload/1/30.png"
    coco_dict["images"][2]["file_name"] = "x/12.png"
    (folder.root / "train2017/12.png").unlink()
    folder.image("train2017/site1/12.png")
    folder.json("annotations/instances_train2017.json", coco_dict)
    lines: list[str] = []
    names = open_dataset(data, warn=lines.append).to_annotations().file_names.tolist()
    assert names == ["30.png", "7.png", "site1/12.png"]
    assert "2 of 3 images have another name on disk" in lines[0]
