import os
from pathlib import Path

import pytest

from drfpn.data.image_formats import is_hidden, is_image_file, is_undecodable_image, walk_files


@pytest.mark.parametrize("name", ["a.jpg", "a.JPG", "a.jfif", "a.jpe", "a.apng", "a.tga", "a.pnm", "a.qoi", "a.mpo"])
def test_what_pillow_decodes_is_an_image(name: str) -> None:
    assert is_image_file(Path("photos", name))


@pytest.mark.parametrize("name", ["a.pdf", "a.eps", "a.wmf", "a.mpg", "a.h5", "a.txt", "a", "._a.jpg", ".a.jpg"])
def test_documents_videos_and_hidden_files_are_no_images(name: str) -> None:
    assert not is_image_file(Path("photos", name))


def test_a_format_without_its_package_is_known_but_not_read() -> None:
    assert is_undecodable_image(Path("a.jxl"))
    assert not is_undecodable_image(Path("a.jpg"))
    assert not is_undecodable_image(Path("._a.jxl"))


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", ".ipynb_checkpoints", "__MACOSX", "._a.jpg"])
def test_files_of_file_managers_are_hidden(name: str) -> None:
    assert is_hidden(name)


def test_linked_folders_are_walked_once_and_hidden_ones_are_not(tmp_path: Path) -> None:
    for name in ("data/a.jpg", "data/sub/b.jpg", "data/.ipynb_checkpoints/a.jpg", "data/Thumbs.db", "other/c.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    root = tmp_path / "data"
    try:
        os.symlink(tmp_path / "other", root / "linked")
        os.symlink(root, root / "sub/loop")
        os.symlink(tmp_path / "none.jpg", root / "broken.jpg")
    except OSError:
        pytest.skip("this file system has no symbolic links")
    found = sorted(str(path.relative_to(root)) for path in walk_files(root))
    assert found == ["a.jpg", "broken.jpg", "linked/c.jpg", "sub/b.jpg"]
    assert list(walk_files(tmp_path / "nowhere")) == []
