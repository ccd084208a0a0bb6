import json
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def one_file(tmp_path) -> Path:
    """annotations.json and photos/: an object, and one that is a crowd, in each of 3 images."""
    (tmp_path / "photos").mkdir()
    images, annotations = [], []
    for i in range(1, 4):
        Image.new("RGB", (60, 40), (70 * i, 0, 0)).save(tmp_path / f"photos/{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "width": 60, "height": 40})
        for crowd, x in enumerate((2, 30)):
            box = {"bbox": [x, 5, 20, 20], "area": 400, "iscrowd": crowd}
            annotations.append({"id": len(annotations) + 1, "image_id": i, "category_id": 1, **box})
    file = tmp_path / "annotations.json"
    record = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "bolt"}]}
    file.write_text(json.dumps(record))
    return file


def results(file: Path) -> Path:
    """Write a detection of each object that is not a crowd."""
    rows = [
        {"image_id": a["image_id"], "category_id": 1, "bbox": a["bbox"], "score": 0.9}
        for a in json.loads(file.read_text())["annotations"]
        if not a["iscrowd"]
    ]
    (file.parent / "found.json").write_text(json.dumps(rows))
    return file.parent / "found.json"


def test_commands_take_one_file_and_a_folder_of_images(drfpn, one_file) -> None:
    images = ("--images", "photos")
    assert json.loads(drfpn("data", "stats", one_file, "--split", "all", *images, "--json").out)["images"] == 3
    assert drfpn("data", "convert", one_file, "--to", "voc", "--out", "voc", *images).code == 0
    assert len(list(Path("voc/JPEGImages").iterdir())) == 3
    evaluated = drfpn("eval", results(one_file), "--data", one_file, "--split", "all", *images, "--json")
    assert json.loads(evaluated.out)["images"] == 3


def test_missing_folder_of_images_is_refused(drfpn, one_file) -> None:
    result = drfpn("data", "stats", one_file, "--split", "all", "--images", "nowhere")
    assert result.code == 2
    assert "--images is 'nowhere', which does not exist" in result.err
    assert drfpn("data", "convert", "shapes", "--to", "voc", "--out", "out", "--images", "nowhere").code == 2


def test_crowds_are_evaluated_as_objects_on_request(drfpn, one_file) -> None:
    evaluate = ("eval", results(one_file), "--data", one_file, "--split", "all", "--images", "photos", "--json")
    ignored = drfpn(*evaluate)
    assert json.loads(ignored.out)["box"]["AP"] == pytest.approx(1)
    assert "3 of 6 objects are crowds (iscrowd)" in ignored.err
    assert "--crowd object uses them" in ignored.err
    assert json.loads(drfpn(*evaluate, "--crowd", "object").out)["box"]["AP"] == pytest.approx(0.505, abs=0.001)
    assert drfpn(*evaluate, "--crowd", "objects").code == 2
