import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from drfpn.data.masks.rle import decode
from drfpn.inference.images import UnreadableInputError, to_image_tensor
from drfpn.utils.errors import UserError


def test_detections_become_coco_results_with_the_category_ids_of_the_data_set(detections) -> None:
    predictions = detections([[1, 2, 4, 8], [0, 0, 1, 1]], [2, 1], [0.75, 0.25])
    rows = predictions.above(0.5).to_coco(7)
    assert rows == [{"image_id": 7, "category_id": 20, "bbox": [1.0, 2.0, 3.0, 6.0], "score": 0.75}]


def test_masks_of_coco_results_are_those_of_the_detections(detections) -> None:
    predictions = detections([[10, 20, 50, 60]], [1], [0.9], crops=torch.ones(1, 1, 28, 28))
    (row,) = predictions.to_coco(1)
    np.testing.assert_array_equal(decode(row["segmentation"], 100, 120), predictions.masks()[0].numpy())


def test_a_plot_has_the_size_of_its_image_and_the_color_of_its_boxes(detections) -> None:
    predictions = detections([[10, 60, 50, 90]], [1], [0.9])
    picture = predictions.plot(Image.new("RGB", (120, 100)), min_side=0)
    assert picture.size == (120, 100)
    assert picture.getpixel((30, 60)) == (0x00, 0x72, 0xB2)
    assert min(predictions.plot(torch.zeros(3, 100, 120, dtype=torch.uint8)).size) == 480


def test_a_plot_tints_the_masks_of_the_detections(detections) -> None:
    crops = torch.zeros(2, 1, 28, 28)
    crops[1] = 1
    predictions = detections([[10, 20, 50, 60], [60, 50, 100, 90]], [1, 2], [0.9, 0.8], crops=crops)
    picture = predictions.plot(Image.new("RGB", (120, 100)), min_side=0)
    assert picture.getpixel((30, 45)) == (0, 0, 0)
    assert picture.getpixel((80, 75)) != (0, 0, 0)


def test_a_plot_on_another_image_is_refused(detections) -> None:
    with pytest.raises(UserError, match=r"50 x 60 pixels .* 100 x 120"):
        detections([], [], []).plot(Image.new("RGB", (60, 50)))


def test_detections_have_the_form_of_the_pipelines_of_transformers(detections) -> None:
    rows = detections([[1.9, 2.2, 4.7, 8], [0, 0, 1, 1]], [2, 1], [0.75, 0.25]).to_hf()
    assert rows[0] == {"score": 0.75, "label": "dog", "box": {"xmin": 1, "ymin": 2, "xmax": 4, "ymax": 8}}
    assert all(type(side) is int for side in rows[0]["box"].values())
    assert [row["label"] for row in rows] == ["dog", "cat"]
    assert detections([], [], []).to_hf() == []


def test_masks_of_the_segmentation_pipeline_are_black_and_white_images(detections) -> None:
    predictions = detections([[10, 20, 50, 60]], [1], [0.9], crops=torch.ones(1, 1, 28, 28))
    (row,) = predictions.to_hf()
    assert (row["mask"].mode, row["mask"].size) == ("L", (120, 100))
    np.testing.assert_array_equal(np.asarray(row["mask"]), 255 * predictions.masks()[0].numpy().astype(np.uint8))


def test_supervision_gets_boxes_names_and_masks(detections, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(Detections=lambda **values: values))
    converted = detections([[10, 20, 50, 60]], [2], [0.5], crops=torch.ones(1, 1, 28, 28)).to_supervision()
    assert converted["xyxy"].tolist() == [[10, 20, 50, 60]]
    assert converted["confidence"].tolist() == [0.5]
    assert converted["class_id"].tolist() == [1]
    assert converted["data"]["class_name"].tolist() == ["dog"]
    assert converted["mask"].shape == (1, 100, 120)
    assert converted["mask"].dtype == bool
    assert detections([], [], []).to_supervision()["xyxy"].shape == (0, 4)


def test_the_error_without_supervision_names_what_to_install(detections, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(UserError, match="pip install supervision"):
        detections([], [], []).to_supervision()


def test_images_come_as_files_pillow_images_or_tensors(tmp_path) -> None:
    pixels = torch.randint(256, (3, 6, 8), dtype=torch.uint8)
    image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    exif = Image.Exif()
    exif[0x0112] = 6  # displayed rotated by 90 degrees clockwise
    image.save(tmp_path / "a.png", exif=exif)
    rotated = torch.rot90(pixels, -1, (1, 2))
    torch.testing.assert_close(to_image_tensor(pixels), pixels)
    torch.testing.assert_close(to_image_tensor(image), pixels)
    torch.testing.assert_close(to_image_tensor(tmp_path / "a.png"), rotated)
    torch.testing.assert_close(to_image_tensor(Image.open(tmp_path / "a.png")), rotated)
    with pytest.raises(UserError, match=r"float32 \(3, 6, 8\), expected uint8"):
        to_image_tensor(pixels.float())
    with pytest.raises(UnreadableInputError, match=r"none\.png"):
        to_image_tensor(tmp_path / "none.png")
