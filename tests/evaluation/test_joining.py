import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drfpn.data import DetectionDataset
from drfpn.evaluation.joining import join_by_name, match_paths
from drfpn.utils.errors import UserError


class Named(DetectionDataset):
    """Images of 100 x 200 pixels without pixels: ids by path, and categories by id."""

    def __init__(self, ids: dict[str, int], categories: dict[int, str]) -> None:
        self.ids = ids
        self.category_ids, self.classes = tuple(categories), tuple(categories.values())

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index):
        raise NotImplementedError

    def name(self, index: int) -> str:
        return list(self.ids)[index]

    def image_id(self, index: int) -> int:
        return list(self.ids.values())[index]

    def sizes(self):
        return np.tile([100, 200], (len(self), 1))

    def ground_truth(self):
        raise NotImplementedError


def write(folder: Path, files: dict[int, str], categories: dict[int, str] | None = None, **extra: Any) -> Path:
    images = [{"id": k, "file_name": name, "height": 100, "width": 200, **extra} for k, name in files.items()]
    (folder / "images.json").write_text(json.dumps(images))
    if categories is not None:
        rows = [{"id": k, "name": name} for k, name in categories.items()]
        (folder / "categories.json").write_text(json.dumps(rows))
    return folder / "results.json"


def rows(*ids: tuple[int, int]) -> list[dict[str, Any]]:
    return [{"image_id": image, "category_id": category, "score": 1} for image, category in ids]


def ids_of(results: list[dict[str, Any]]) -> list[tuple[int, int]]:
    return [(row["image_id"], row["category_id"]) for row in results]


def test_images_are_joined_by_path_and_classes_by_name(tmp_path) -> None:
    file = write(tmp_path, {1: "d/val/a.jpg", 2: "d/val/b.jpg"}, {1: "cat", 2: "dog"})
    dataset = Named({"d/val/b.jpg": 1, "d/val/a.jpg": 2}, {0: "cat", 1: "dog", 5: "eel"})
    given = rows((1, 1), (2, 1), (2, 2))
    said: list[str] = []
    assert ids_of(join_by_name(file, given, dataset, "val", said.append)) == [(2, 0), (1, 0), (1, 1)]
    assert ids_of(given) == [(1, 1), (2, 1), (2, 2)]
    assert said == []


def test_folders_without_categories_and_results_of_other_tools_keep_their_ids(tmp_path) -> None:
    file = write(tmp_path, {1: "d/a.jpg"})
    dataset = Named({"d/a.jpg": 9}, {1: "cat", 2: "dog"})
    assert ids_of(join_by_name(file, rows((1, 2)), dataset, "val", print)) == [(9, 2)]
    assert ids_of(join_by_name(tmp_path / "mine.json", rows((1, 2)), dataset, "val", print)) == [(1, 2)]
    (tmp_path / "images.json").write_text('{"photo": 1}')
    assert ids_of(join_by_name(file, rows((1, 2)), dataset, "val", print)) == [(1, 2)]


def test_images_of_other_splits_and_frames_are_left_out_with_a_word(tmp_path) -> None:
    file = write(tmp_path, {1: "d/train/x.jpg", 2: "d/val/a.jpg", 3: "d/train/a.jpg"})
    dataset = Named({"d/val/a.jpg": 7, "d/val/b.jpg": 8}, {1: "cat"})
    said: list[str] = []
    assert ids_of(join_by_name(file, rows((1, 1), (2, 1), (3, 1)), dataset, "val", said.append)) == [(7, 1)]
    assert said[0].startswith("2 of 3 predicted images are not in 'val'")
    assert "1 of 2 images of 'val' were not predicted, such as d/val/b.jpg" in said[1]
    write(tmp_path, {1: "d/val/a.jpg"}, frame=0)
    with pytest.raises(UserError, match=r"has no image of the split 'val': it has d/val/a\.jpg"):
        join_by_name(file, rows((1, 1)), dataset, "val", print)


@pytest.mark.parametrize(
    ("files", "categories", "message"),
    [
        (
            {1: "d/other.jpg"},
            None,
            "no image of the split 'val': it has d/other.jpg and others, the split has d/a.jpg",
        ),
        ({2: "d/a.jpg"}, None, "entry 0 has the image_id 1, which images.json"),
        ({1: "d/a.jpg"}, {1: "cats"}, "no category 'cats', only cat, dog, dog. Did you mean 'cat'"),
        ({1: "d/a.jpg"}, {1: "dog"}, "2 categories with the name 'dog'"),
        ({1: "d/a.jpg"}, {2: "dog"}, "entry 0 has the category_id 1, which categories.json"),
    ],
)
def test_what_cannot_be_joined_is_named(tmp_path, files, categories, message) -> None:
    file = write(tmp_path, files, categories)
    with pytest.raises(UserError, match=message):
        join_by_name(file, rows((1, 1)), Named({"d/a.jpg": 1}, {1: "cat", 2: "dog", 3: "dog"}), "val", print)


def test_an_image_of_another_size_is_another_image(tmp_path) -> None:
    file = write(tmp_path, {1: "d/a.jpg"}, width=300)
    with pytest.raises(UserError, match=r"d/a\.jpg has 100 x 300 pixels .* the split 'val' has 100 x 200"):
        join_by_name(file, rows((1, 1)), Named({"e/a.jpg": 1}, {1: "cat"}), "val", print)


def test_detections_of_classes_that_the_data_set_lacks_are_left_out_with_a_word(tmp_path) -> None:
    file = write(tmp_path, {1: "d/a.jpg"}, {1: "cat", 2: "zebra"})
    said: list[str] = []
    dataset = Named({"d/a.jpg": 1}, {5: "cat", 6: "eel"})
    assert ids_of(join_by_name(file, rows((1, 1), (1, 2)), dataset, "val", said.append)) == [(1, 5)]
    assert said == ["detections of classes that are not in the data set are left out: zebra."]
    write(tmp_path, {1: "d/a.jpg"}, {1: "cat", 2: "eels"})
    with pytest.raises(UserError, match=r"no category 'eels', only cat, eel\. Did you mean 'eel'"):
        join_by_name(file, rows((1, 1), (1, 2)), dataset, "val", print)


def test_files_with_a_byte_order_mark_are_joined_too(tmp_path) -> None:
    file = write(tmp_path, {1: "d/a.jpg"})
    (tmp_path / "images.json").write_text((tmp_path / "images.json").read_text(), encoding="utf-8-sig")
    assert ids_of(join_by_name(file, rows((1, 1)), Named({"d/a.jpg": 9}, {1: "cat"}), "val", print)) == [(9, 1)]


def test_categories_of_one_name_are_joined_by_id(tmp_path) -> None:
    file = write(tmp_path, {1: "d/a.jpg"}, {2: "dog", 3: "dog"})
    dataset = Named({"d/a.jpg": 1}, {1: "cat", 2: "dog", 3: "dog"})
    assert ids_of(join_by_name(file, rows((1, 3), (1, 2)), dataset, "val", print)) == [(1, 3), (1, 2)]


def test_paths_match_by_their_longest_common_end() -> None:
    known = ["/data/s1/a.jpg", "/data/s2/a.jpg", "/data/s2/b.jpg"]
    assert match_paths(["/moved/s2/a.jpg", "s1/a.jpg", None, "x/c.jpg", "b.jpg"], known) == [1, 0, None, None, 2]
    assert match_paths(["C:\\data\\s2\\a.jpg"], known) == [1]
    decomposed = unicodedata.normalize("NFD", "é.jpg")
    assert match_paths([decomposed], ["d/é.jpg"]) == [0]
    # the same path is nearer than any common end, whatever comes first
    assert match_paths(["x/a.jpg", "y/a.jpg", "d/a.jpg"], ["d/a.jpg"]) == [None, None, 0]
    assert match_paths(["./d/../d/a.jpg"], ["d/a.jpg"]) == [0]


def test_paths_that_match_equally_well_are_refused() -> None:
    with pytest.raises(UserError, match=r"a\.jpg may be s1/a\.jpg or s2/a\.jpg"):
        match_paths(["a.jpg"], ["s1/a.jpg", "s2/a.jpg"])
    with pytest.raises(UserError, match=r"d/a\.jpg may be x/a\.jpg or y/a\.jpg"):
        match_paths(["x/a.jpg", "y/a.jpg"], ["d/a.jpg"])


def test_relative_paths_are_not_those_of_the_working_folder(tmp_path, monkeypatch) -> None:
    (tmp_path / "s1").mkdir()
    monkeypatch.chdir(tmp_path / "s1")
    known = [str(tmp_path / folder / "a.jpg") for folder in ("s1", "s2")]
    with pytest.raises(UserError, match=r"a\.jpg may be .*s1.a\.jpg or .*s2.a\.jpg"):
        match_paths(["a.jpg"], known)
    assert match_paths([known[1]], known) == [1]
