from pathlib import Path

import pytest
from PIL import Image

from drfpn.data import image_formats
from drfpn.inference import find_inputs
from drfpn.inference.inputs import coco_image_ids, output_files
from drfpn.utils.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.png", "a.JPG", "notes.txt"):
        if name.endswith("txt"):
            (tmp_path / name).write_text("no image")
        else:
            Image.new("RGB", (4, 4)).save(tmp_path / name)
    return tmp_path


def test_folders_files_and_patterns_are_listed_once_and_in_order(folder: Path) -> None:
    assert [file.name for file in find_inputs([str(folder)])] == ["a.JPG", "b.png"]
    files = find_inputs([str(folder / "b.png"), str(folder / "*")])
    assert [file.name for file in files] == ["b.png", "a.JPG"]


def test_the_error_of_a_missing_file_suggests_the_closest_name(folder: Path) -> None:
    with pytest.raises(UserError, match=r"Did you mean 'b.png'"):
        find_inputs([str(folder / "bb.png")])
    with pytest.raises(UserError, match="holds no image and no video"):
        find_inputs([str(folder / "*.gif")])


def test_patterns_match_files_in_subfolders_and_videos(folder: Path, monkeypatch) -> None:
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


def test_pictures_that_cannot_be_read_are_named_and_hidden_files_are_not(folder: Path, caplog) -> None:
    for name in ("c.cr2", "d.NEF", "._b.png", ".e.mp4", "Thumbs.db", "f.3gp"):
        (folder / name).touch()
    (folder / "g.png").mkdir()
    for source in (folder, folder / "*"):
        caplog.clear()
        assert [file.name for file in find_inputs([str(source)])] == ["a.JPG", "b.png", "f.3gp"]
        (line,) = caplog.messages
        assert line.startswith("Left out: 2 in formats that cannot be read (.cr2, .nef): ")
        assert line.endswith(f"{folder / 'c.cr2'}, {folder / 'd.NEF'}.")
    assert find_inputs([str(folder / "c.cr2")]) == [folder / "c.cr2"]  # its error is that of the reader
    with pytest.raises(UserError, match=r"no video, only 1 in formats that cannot be read .*c\.cr2"):
        find_inputs([str(folder / "*.cr2")])


def test_formats_that_a_package_makes_readable_are_left_out_with_its_name(folder: Path, caplog, monkeypatch) -> None:
    monkeypatch.setattr(image_formats, "IMAGE_SUFFIXES", (".png",))
    (folder / "phone.heic").touch()
    assert [file.name for file in find_inputs([str(folder)])] == ["b.png"]
    assert "(.heic; try 'pip install pillow-heif'): " in caplog.text


def test_folders_with_brackets_in_their_names_are_not_patterns(folder: Path) -> None:
    (folder / "set [1]").mkdir()
    (folder / "b.png").rename(folder / "set [1]" / "b.png")
    assert find_inputs([str(folder / "set [1]" / "*.png")]) == [folder / "set [1]" / "b.png"]
    assert find_inputs([str(folder / "set*" / "*.png")]) == [folder / "set [1]" / "b.png"]


def test_names_of_missing_files_with_brackets_are_not_only_patterns(folder: Path) -> None:
    (folder / "a[1].png").touch()
    with pytest.raises(UserError, match=r"There is no file or folder .*a\[2\]\.png, and as a pattern .*'a\[1\]\.png'"):
        find_inputs([str(folder / "a[2].png")])


@pytest.mark.parametrize("text", ["", " "])
def test_an_empty_input_is_not_the_working_folder(folder: Path, monkeypatch, text: str) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(UserError, match=f"An input is '{text}', expected a file"):
        find_inputs([text])


def test_a_pattern_that_pathlib_refuses_is_a_user_error(folder: Path) -> None:
    with pytest.raises(UserError, match=r"not a valid pattern|holds no image"):
        find_inputs([str(folder / "**x" / "*.png")])


def test_a_file_is_listed_once_by_whatever_path(folder: Path, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "link").symlink_to(folder)
    (folder / "c.png").symlink_to(folder / "b.png")  # another name is another input
    found = find_inputs(["b.png", str(folder / "b.png"), "link/b.png", "c.png"])
    assert found == [Path("b.png"), Path("c.png")]


def test_source_code_in_typescript_is_no_video(folder: Path) -> None:
    (folder / "app.ts").write_text("import {a} from 'b'")
    (folder / "clip.ts").write_bytes(b"\x47\x40\x00")
    assert [file.name for file in find_inputs([str(folder)])] == ["a.JPG", "b.png", "clip.ts"]
    assert find_inputs([str(folder / "app.ts")]) == [folder / "app.ts"]  # its error is that of the reader


def test_an_address_is_refused_with_what_to_do() -> None:
    with pytest.raises(UserError, match="is an address, expected a file or folder"):
        find_inputs(["rtsp://10.0.0.3/cam"])


def test_image_ids_are_the_numbers_in_the_names_of_coco_files() -> None:
    assert coco_image_ids([Path("000000000139.jpg"), Path("x/000000000785.jpg")]) == [139, 785]
    assert coco_image_ids([Path("000000000139.jpg"), Path("cat.jpg")]) is None
    assert coco_image_ids([Path("a/1.jpg"), Path("b/1.jpg")]) is None
    assert coco_image_ids([Path("1.jpg"), Path("2.mp4")]) is None


def test_output_files_of_the_same_name_get_numbers() -> None:
    files = [Path("a/x.png"), Path("b/x.png"), Path("x-2.jpg"), Path("x.mov")]
    names = [file.name for file in output_files(files, Path("out"))]
    assert names == ["x.jpg", "x-2.jpg", "x-2-2.jpg", "x.mp4"]


@pytest.mark.parametrize("letter", ["x", "é"])
def test_names_of_output_files_are_cut_to_what_file_systems_accept(tmp_path: Path, letter: str) -> None:
    stem = letter * (251 // len(letter.encode()))
    outputs = output_files([Path(f"{stem}.png"), Path(f"a/{stem}.png"), Path(f"{stem}.ts")], tmp_path)
    assert len(set(outputs)) == 3
    for file in outputs:
        file.with_name(file.name + ".part").touch()
        assert 245 <= len(file.name.encode()) <= 250


def test_an_input_is_never_overwritten(folder: Path) -> None:
    Image.new("RGB", (4, 4)).save(folder / "c.jpg")
    with pytest.raises(UserError, match=r"c\.jpg is one of the inputs"):
        output_files([folder / "c.jpg"], folder)
