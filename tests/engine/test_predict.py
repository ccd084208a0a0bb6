from pathlib import Path

import pytest
import torch
from PIL import Image

from drfpn.engine import Detections, find_images
from drfpn.engine.predict import image_ids
from drfpn.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.png", "a.JPG", "notes.txt"):
        if name.endswith("txt"):
            (tmp_path / name).write_text("no image")
        else:
            Image.new("RGB", (4, 4)).save(tmp_path / name)
    return tmp_path


def test_folders_files_and_patterns_are_found_once_and_in_order(folder: Path) -> None:
    assert [file.name for file in find_images([str(folder)])] == ["a.JPG", "b.png"]
    found = find_images([str(folder / "b.png"), str(folder / "*")])
    assert [file.name for file in found] == ["b.png", "a.JPG"]


def test_what_is_not_there_is_named_with_the_nearest(folder: Path) -> None:
    with pytest.raises(UserError, match=r"Did you mean 'b.png'"):
        find_images([str(folder / "bb.png")])
    with pytest.raises(UserError, match="holds no image"):
        find_images([str(folder / "*.gif")])


def test_coco_names_give_coco_ids_and_others_are_numbered() -> None:
    assert image_ids([Path("000000000139.jpg"), Path("x/000000000785.jpg")]) == [139, 785]
    assert image_ids([Path("000000000139.jpg"), Path("cat.jpg")]) == [1, 2]
    assert image_ids([Path("a/1.jpg"), Path("b/1.jpg")]) == [1, 2]


def test_detections_become_coco_results_with_the_data_sets_own_ids() -> None:
    boxes, labels = torch.tensor([[1.0, 2, 4, 8], [0, 0, 1, 1]]), torch.tensor([2, 1])
    found = Detections(Path("a.jpg"), torch.zeros(3, 9, 9), boxes, labels, torch.tensor([0.75, 0.25]))
    rows = found.above(0.5).to_coco(7, category_ids=(10, 90))
    assert rows == [{"image_id": 7, "category_id": 90, "bbox": [1.0, 2.0, 3.0, 6.0], "score": 0.75}]
