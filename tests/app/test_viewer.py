"""What the page shows, without a browser."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from drfpn.app import SHIPPED
from drfpn.app.examples import NUMBER, write_examples
from drfpn.app.viewer import MAX_PIXELS, Viewer, coco, describe, features, gates, offsets, picture, rows
from drfpn.data import open_dataset
from drfpn.evaluation import detect, score
from drfpn.inference import Predictor, load_predictor
from drfpn.training import Card, resolve
from drfpn.training.checkpoint import build, load_card, load_detector
from drfpn.utils.errors import UserError


def small(model: str) -> Predictor:
    torch.manual_seed(0)
    config = resolve(model, "shapes", overrides=("width=16", "weights_backbone=null"))
    return Predictor(build(Card(config=config, classes=("a",), category_ids=(1,))).eval(), ("a",), (1,))


@pytest.fixture(scope="module")
def viewer() -> Viewer:
    return Viewer(
        {
            "shapes": load_predictor(SHIPPED),
            "fpn": small("faster_rcnn_lite0_fpn"),
            "one": small("retinanet_lite0_drfpn"),
        }
    )


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return open_dataset("shapes", "test").image(0)


def test_a_broken_file_is_named_without_the_servers_folder(tmp_path: Path, viewer: Viewer) -> None:
    file = tmp_path / "holiday.png"
    file.write_bytes(b"no image at all")
    with pytest.raises(UserError, match=r"^holiday\.png") as caught:
        viewer.read(file)
    assert str(tmp_path) not in str(caught.value)


def test_an_image_of_too_many_pixels_is_refused_by_its_header(tmp_path: Path, viewer: Viewer) -> None:
    file = tmp_path / "huge.png"
    Image.new("1", (MAX_PIXELS // 1000 + 5000, 1000)).save(file)
    with pytest.raises(UserError, match=r"^huge\.png has 30000 x 1000 = 30 million pixels, but at most 25 million"):
        viewer.read(file)
    assert viewer.read(_saved(tmp_path, (200, 100))).shape == (3, 100, 200)


def _saved(folder: Path, size: tuple[int, int]) -> Path:
    Image.new("RGB", size).save(folder / "fine.png")
    return folder / "fine.png"


def test_rows_and_json_hold_what_reaches_the_score(viewer: Viewer, image: torch.Tensor) -> None:
    found = {"shapes": viewer.detect(image, "shapes")}
    for least in (0.1, 0.9):
        expected = int((found["shapes"].scores >= least).sum())
        assert len(rows(found, least)) == expected
        numbers = json.loads(json.dumps(coco(found, least, "x.png")))["detectors"]["shapes"]
        assert len(numbers["results"]) == expected
        names = {category["id"]: category["name"] for category in numbers["categories"]}
        assert [names[result["category_id"]] for result in numbers["results"]] == [row[1] for row in rows(found, least)]
    assert len(rows(found, 0.1)) > len(rows(found, 0.9)) > 0


def test_two_detectors_are_drawn_side_by_side(viewer: Viewer, image: torch.Tensor) -> None:
    one = viewer.detect(image, "shapes")
    alone, both = picture(image, {"shapes": one}, 0.5), picture(image, {"shapes": one, "copy": one}, 0.5)
    assert both.width > 1.9 * alone.width


def test_two_detectors_without_a_common_class_are_drawn_all_the_same(viewer: Viewer, image: torch.Tensor) -> None:
    found = {"shapes": viewer.detect(image, "shapes"), "fpn": viewer.detect(image, "fpn")}
    assert picture(image, found, 0.5).width > 600


def test_levels_offsets_and_gates_are_drawn_and_judged(viewer: Viewer, image: torch.Tensor) -> None:
    found = {name: viewer.inspect(image, name) for name in ("shapes", "one")}
    mean, active = (features(found, mean=mean) for mean in (True, False))
    assert np.asarray(mean).std() > 10
    assert mean.tobytes() != active.tobytes()
    drawn, words = offsets(found["shapes"], image, "shapes")
    assert drawn is not None
    assert any(line.startswith("offsets C2-C3: samples are moved by") for line in words)
    drawn, words = gates(found["shapes"], "shapes")
    assert drawn is not None
    assert len(words) == 3


def test_a_pyramid_without_blocks_is_told_in_words(viewer: Viewer, image: torch.Tensor) -> None:
    found = viewer.inspect(image, "fpn")
    drawn, words = offsets(found, image, "fpn")
    assert drawn is None
    assert words == ["fpn has no spatial refinement block: there are no offsets to look at."]
    assert gates(found, "fpn")[0] is None


def test_two_visitors_at_once_get_what_each_would_alone(viewer: Viewer) -> None:
    images = [open_dataset("shapes", "test").image(i) for i in range(6)]
    alone = [(viewer.detect(m, "shapes"), viewer.inspect(m, "shapes")) for m in images]
    with ThreadPoolExecutor(6) as pool:
        inspected = [pool.submit(viewer.inspect, m, "shapes") for m in images]
        detected = [pool.submit(viewer.detect, m, "shapes") for m in images]
    for (found, inner), a, b in zip(alone, detected, inspected, strict=True):
        torch.testing.assert_close(a.result().boxes, found.boxes)
        torch.testing.assert_close(b.result().offsets, inner.offsets)
        torch.testing.assert_close(b.result().merged, inner.merged)


def test_examples_are_of_the_runs_own_data_or_else_shapes(tmp_path: Path) -> None:
    card = load_card(SHIPPED)
    files = write_examples(card, tmp_path)
    assert len(files) == NUMBER
    expected = open_dataset("shapes", "val").image(2)
    torch.testing.assert_close(torch.from_numpy(np.asarray(Image.open(files[2]))).permute(2, 0, 1), expected)
    away = card.model_copy(update={"config": card.config.model_copy(update={"data": str(tmp_path / "gone")})})
    expected = open_dataset("shapes", "test").image(2)
    again = write_examples(away, tmp_path)
    torch.testing.assert_close(torch.from_numpy(np.asarray(Image.open(again[2]))).permute(2, 0, 1), expected)


def test_a_detector_is_described_by_its_model_data_and_classes() -> None:
    text = describe({"mine": load_card(SHIPPED)})
    assert text.startswith(
        "- **mine**: faster_rcnn_lite0_drfpn, trained on shapes (3 epochs, box AP 53.1); knows cross"
    )


def test_the_shipped_weights_and_their_card_stay_small() -> None:
    assert SHIPPED.stat().st_size + SHIPPED.with_suffix(".md").stat().st_size < 25e6


@pytest.mark.slow
def test_the_shipped_detector_is_as_good_as_its_card_says() -> None:
    model, card = load_detector(SHIPPED)
    dataset = open_dataset("shapes", "val")
    metrics = score(dataset.ground_truth(), detect(model, dataset, category_ids=dataset.category_ids))
    assert metrics.box["AP"] == pytest.approx(card.metrics["AP"], abs=0.005)  # half precision, another machine
    assert "| box AP | 53.0," in SHIPPED.with_suffix(".md").read_text(encoding="utf-8")
