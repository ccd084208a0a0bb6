import shutil
from pathlib import Path
from typing import Any

import pytest

from drfpn.data import check_dataset, open_dataset, split_dataset
from drfpn.utils.errors import UsageError, UserError


@pytest.fixture
def voc(folder: Any) -> Path:
    """XML files and images without lists: 8 with cats, 4 with dogs; 0 and 1 are the same image."""
    for number in range(12):
        objects = folder.voc_object("cat" if number % 3 else "dog", (2, 3, 10, 12))
        size = "<size><width>30</width><height>20</height></size>"
        folder.json(f"annotations/{number}.xml", f"<annotation>{size}{objects}</annotation>")
        folder.image(f"images/{number}.png")
    shutil.copy(folder.root / "images/0.png", folder.root / "images/1.png")
    return folder.root


def names(data: object, split: str) -> list[str]:
    return open_dataset(str(data), split).annotations.file_names.tolist()


def test_lists_divide_the_images_and_are_found(voc: Path) -> None:
    result = split_dataset(str(voc), 0.25, 0.25)
    assert {split: len(names(voc, split)) for split in result.files} == {"train": 6, "val": 3, "test": 3}
    assert sorted(name for split in result.files for name in names(voc, split)) == sorted(
        f"{number}.png" for number in range(12)
    )
    assert result.files["val"] == voc / "splits/val.txt"
    assert (voc / "splits/val.txt").read_text().splitlines() == names(voc, "val")
    for annotations in result.splits.values():
        assert sorted(annotations.labels.tolist()).count(2) == len(annotations) // 3  # dogs
    assert "split-missing" not in {issue.kind for issue in check_dataset(str(voc))}


def test_ids_and_objects_are_those_of_the_whole_data_set(voc: Path) -> None:
    whole = open_dataset(str(voc), "all").annotations
    split_dataset(str(voc), 0.25)
    ids = dict(zip(whole.file_names.tolist(), whole.image_ids.tolist(), strict=True))
    for split in ("train", "val"):
        part = open_dataset(str(voc), split).annotations
        assert [ids[name] for name in part.file_names.tolist()] == part.image_ids.tolist()
        for index, name in enumerate(part.file_names.tolist()):
            other = whole.file_names.tolist().index(name)
            assert part.labels[part.object_slice(index)].tolist() == whole.labels[whole.object_slice(other)].tolist()


def test_copies_stay_on_one_side_unless_asked(voc: Path) -> None:
    together = {(0 in part) == (1 in part) for part in _parts(voc, range(6), group_similar=True)}
    assert together == {True}
    assert not all((0 in part) == (1 in part) for part in _parts(voc, range(6), group_similar=False))


def _parts(voc: Path, seeds: range, **options: Any) -> list[set[int]]:
    results = [split_dataset(str(voc), 0.5, seed=seed, force=True, **options) for seed in seeds]
    assert {result.similar_images for result in results} == {2 if options["group_similar"] else 0}
    return [{int(Path(name).stem) for name in result.splits["val"].file_names.tolist()} for result in results]


def test_lists_are_replaced_only_on_request_and_none_is_left_over(voc: Path) -> None:
    split_dataset(str(voc), 0.25, 0.25, seed=1)
    before = (voc / "splits/train.txt").read_text()
    with pytest.raises(UserError, match=r"is split already by lists \(.*train\.txt.*\); `force=True` replaces them"):
        split_dataset(str(voc), 0.25)
    assert (voc / "splits/train.txt").read_text() == before
    split_dataset(str(voc), 0.25, force=True)
    assert sorted(file.name for file in (voc / "splits").iterdir()) == ["train.txt", "val.txt"]


def test_one_coco_file_is_divided_beside_itself(folder: Any, coco_dict: Any) -> None:
    file = folder.json("objects.json", coco_dict)
    for image in coco_dict["images"]:
        folder.image(image["file_name"])
    split_dataset(str(file), 0.34)
    assert sorted(path.name for path in (folder.root / "objects.splits").iterdir()) == ["train.txt", "val.txt"]
    assert sorted([*names(file, "train"), *names(file, "val")]) == ["12.png", "30.png", "7.png"]


def test_a_yolo_data_set_without_val_keeps_its_test_split(folder: Any) -> None:
    data = folder.yolo(dict.fromkeys("abcd", "0 0.5 0.5 0.2 0.2\n"))
    folder.image("images/test/t.png")
    folder.json("labels/test/t.txt", "1 0.5 0.5 0.2 0.2\n")
    folder.json("data.yaml", {"train": "images/train", "test": "images/test", "names": ["cat", "dog"]})
    split_dataset(str(data), 0.25)
    assert [len(names(data, split)) for split in ("train", "val", "test")] == [3, 1, 1]
    assert names(folder.root, "val") == names(data, "val")


def test_data_that_is_split_is_refused(folder: Any, coco_dict: Any) -> None:
    folder.coco(coco_dict, "val")
    data = folder.coco(coco_dict)
    with pytest.raises(UserError, match=r"is split already \(train, val\)"):
        split_dataset(data, 0.2)
    with pytest.raises(UserError, match="shapes has train, val and test already"):
        split_dataset("shapes", 0.2)
    (folder.root / "splits").mkdir()
    (folder.root / "splits/train.txt").write_text("30\n")  # of another tool
    assert len(open_dataset(data, "train")) == 3


@pytest.mark.parametrize(
    ("val", "test", "words"),
    [(0, 0, "`val` is 0"), (1.2, 0, "`val` is 1.2"), (0.2, -1, "`test` is -1"), (0.5, 0.5, "a sum below 1")],
)
def test_fractions_are_checked(val: float, test: float, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        split_dataset("none", val, test)


def test_too_few_different_images_are_refused(voc: Path) -> None:
    for number in range(12):
        if number != 0:
            shutil.copy(voc / "images/0.png", voc / f"images/{number}.png")
    with pytest.raises(UserError, match=r"has 12 images in 1 groups.*`group_similar=False` divides them regardless"):
        split_dataset(str(voc), 0.2)
    assert not (voc / "splits").exists()


def test_images_that_cannot_be_decoded_are_counted(voc: Path) -> None:
    (voc / "images/5.png").write_bytes(b"x")
    assert split_dataset(str(voc), 0.25).undecodable == 1


def test_training_on_data_without_val_names_the_command(voc: Path) -> None:
    command = f"'drfpn data split {voc} --val 0.2' divides it into train and val"
    for split in ("train", "val"):
        with pytest.raises(UserError, match=f"has no split '{split}', expected one that is there: all. {command}"):
            open_dataset(str(voc), split)


def yolo(folder: Any, *names: str) -> Path:
    for name in names:
        folder.image(f"images/{name}.png")
        folder.json(f"labels/{name}.txt", "0 0.5 0.5 0.5 0.5\n")
    folder.json("classes.txt", "cat\n")
    root: Path = folder.root
    return root


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a\nb", r"'a\\nb\.png' cannot be listed"),
        ("a\rb", r"'a\\rb\.png' cannot be listed"),
        (" b", r"' b\.png' and 'b\.png' are one in a list"),
        ("c\\d", r"are one in a list"),
        ("a\udcff", r"is not UTF-8, expected one that a list can hold"),
    ],
)
def test_names_that_a_list_cannot_tell_apart_are_refused(folder: Any, name: str, message: str) -> None:
    data = yolo(folder, name, "b", "c/d", "e")
    with pytest.raises(UserError, match=message):
        split_dataset(str(data), 0.5, group_similar=False)
    assert not (data / "splits").exists()


def test_names_may_have_other_separators_of_lines(folder: Any) -> None:
    data = yolo(folder, "a\u2028b", "c\x85d", "e\x0bf", "g")
    result = split_dataset(str(data), 0.5, group_similar=False)
    assert {split: names(data, split) for split in ("train", "val")} == {
        split: annotations.file_names.tolist() for split, annotations in result.splits.items()
    }


def test_a_list_for_test_is_refused_where_the_data_has_its_own(folder: Any) -> None:
    data = yolo(folder, "train/a", "train/b", "train/c", "test/d")
    with pytest.raises(UserError, match=r"has a split 'test' of its own, expected `test=0`"):
        split_dataset(str(data), 0.3, 0.3, group_similar=False)
    assert set(split_dataset(str(data), 0.3, group_similar=False).files) == {"train", "val"}
    assert names(data, "test") == ["d.png"]


def test_trainval_is_divided_where_there_is_neither_train_nor_val(folder: Any) -> None:
    stems = list("abcd")
    box = folder.voc_object("cat", (2, 3, 11, 20))
    data = folder.voc(dict.fromkeys(stems, box), trainval=stems[:3], test=stems[3:])
    with pytest.raises(UserError, match=r"has no split 'train'.*divides it into train and val"):
        open_dataset(data)
    split_dataset(data, 0.3, group_similar=False)
    assert sorted(names(data, "train") + names(data, "val")) == ["a.jpg", "b.jpg", "c.jpg"]
    assert names(data, "test") == ["d.jpg"]
