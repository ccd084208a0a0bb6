from pathlib import Path

import pytest
from PIL import Image

from drfpn.inference import find_inputs
from drfpn.inference.inputs import coco_ids, output_files
from drfpn.utils.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.png", "a.JPG", "notes.txt"):
        if name.endswith("txt"):
            (tmp_path / name).write_text("no image")
        else:
            Image.new("RGB", (4, 4)).save(tmp_path / name)
    return tmp_path


def test_folders_files_and_patterns_are_found_once_and_in_order(folder: Path) -> None:
    assert [file.name for file in find_inputs([str(folder)])] == ["a.JPG", "b.png"]
    found = find_inputs([str(folder / "b.png"), str(folder / "*")])
    assert [file.name for file in found] == ["b.png", "a.JPG"]


def test_what_is_not_there_is_named_with_the_nearest(folder: Path) -> None:
    with pytest.raises(UserError, match=r"Did you mean 'b.png'"):
        find_inputs([str(folder / "bb.png")])
    with pytest.raises(UserError, match="holds no image and no video"):
        find_inputs([str(folder / "*.gif")])


def test_patterns_reach_into_folders_and_find_videos(folder: Path, monkeypatch) -> None:
    (folder / "sub" / "deep").mkdir(parents=True)
    (folder / "sub" / "deep" / "clip.MP4").touch()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    assert find_inputs(["**/*.MP4"]) == [Path("sub/deep/clip.MP4")]
    assert find_inputs(["~/*.png"]) == [folder / "b.png"]
    assert [file.name for file in find_inputs([str(folder / "?.*")])] == ["a.JPG", "b.png"]


def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(folder: Path) -> None:
    (folder / "b.png").rename(folder / "[b].png")
    assert find_inputs([str(folder / "[b].png")]) == [folder / "[b].png"]


def test_coco_names_give_coco_ids_and_others_none() -> None:
    assert coco_ids([Path("000000000139.jpg"), Path("x/000000000785.jpg")]) == [139, 785]
    assert coco_ids([Path("000000000139.jpg"), Path("cat.jpg")]) is None
    assert coco_ids([Path("a/1.jpg"), Path("b/1.jpg")]) is None
    assert coco_ids([Path("1.jpg"), Path("2.mp4")]) is None


def test_results_of_one_name_get_numbers() -> None:
    files = [Path("a/x.png"), Path("b/x.png"), Path("x-2.jpg"), Path("x.mov")]
    names = [file.name for file in output_files(files, Path("out"))]
    assert names == ["x.jpg", "x-2.jpg", "x-2-2.jpg", "x.mp4"]


def test_an_input_is_never_overwritten(folder: Path) -> None:
    Image.new("RGB", (4, 4)).save(folder / "c.jpg")
    with pytest.raises(UserError, match=r"c\.jpg is one of the inputs"):
        output_files([folder / "c.jpg"], folder)
