from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from PIL import Image

from drfpn.app.predictors import MAX_PIXELS, PredictorPool
from drfpn.data import open_dataset
from drfpn.utils.errors import UserError


def test_the_error_of_a_broken_file_hides_the_folder_of_the_server(tmp_path: Path, pool: PredictorPool) -> None:
    file = tmp_path / "holiday.png"
    file.write_bytes(b"no image at all")
    with pytest.raises(UserError, match=r"^holiday\.png") as caught:
        pool.load_image(file)
    assert str(tmp_path) not in str(caught.value)


def test_an_image_of_too_many_pixels_is_refused_by_its_header(tmp_path: Path, pool: PredictorPool) -> None:
    file = tmp_path / "huge.png"
    Image.new("1", (MAX_PIXELS // 1000 + 5000, 1000)).save(file)
    with pytest.raises(UserError, match=r"^huge\.png has 30000 x 1000 = 30 million pixels, but the limit is 25"):
        pool.load_image(file)
    Image.new("RGB", (200, 100)).save(tmp_path / "small.png")
    assert pool.load_image(tmp_path / "small.png").shape == (3, 100, 200)


def test_concurrent_requests_get_the_results_of_their_own_images(pool: PredictorPool) -> None:
    images = [open_dataset("shapes", "test").image(i) for i in range(6)]
    expected = [(pool.detect(m, "shapes"), pool.capture_neck_tensors(m, "shapes")) for m in images]
    with ThreadPoolExecutor(6) as executor:
        captured = [executor.submit(pool.capture_neck_tensors, m, "shapes") for m in images]
        detected = [executor.submit(pool.detect, m, "shapes") for m in images]
    for (detections, tensors), a, b in zip(expected, detected, captured, strict=True):
        torch.testing.assert_close(a.result().boxes, detections.boxes)
        torch.testing.assert_close(b.result().offsets, tensors.offsets)
        torch.testing.assert_close(b.result().outputs, tensors.outputs)
