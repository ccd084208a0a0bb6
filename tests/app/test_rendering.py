import html
import json
import re

import numpy as np
import pytest
from torch import Tensor

from drfpn.app import SHIPPED_WEIGHTS
from drfpn.app.predictors import PredictorPool
from drfpn.app.rendering import (
    detection_table,
    detections_json,
    detectors_markdown,
    escape_markdown,
    render_detections,
    render_gates,
    render_levels,
    render_offsets,
)
from drfpn.training.checkpoint import load_card
from drfpn.utils.formatting import printable
from tests.names import NAMES


def test_table_and_json_hold_the_detections_above_the_threshold(pool: PredictorPool, image: Tensor) -> None:
    detections = {"shapes": pool.detect(image, "shapes")}
    for threshold in (0.1, 0.9):
        expected = int((detections["shapes"].scores >= threshold).sum())
        table = detection_table(detections, threshold)
        assert len(table) == expected
        content = json.loads(json.dumps(detections_json(detections, threshold, "x.png")))["detectors"]["shapes"]
        assert len(content["results"]) == expected
        names = {category["id"]: category["name"] for category in content["categories"]}
        assert [names[result["category_id"]] for result in content["results"]] == [row[1] for row in table]
    assert len(detection_table(detections, 0.1)) > len(detection_table(detections, 0.9)) > 0


def test_two_detectors_are_drawn_side_by_side(pool: PredictorPool, image: Tensor) -> None:
    detections = pool.detect(image, "shapes")
    one = render_detections(image, {"shapes": detections}, 0.5)
    two = render_detections(image, {"shapes": detections, "copy": detections}, 0.5)
    assert two.width > 1.9 * one.width


def test_two_detectors_without_a_common_class_are_drawn_too(pool: PredictorPool, image: Tensor) -> None:
    detections = {"shapes": pool.detect(image, "shapes"), "fpn": pool.detect(image, "fpn")}
    assert render_detections(image, detections, 0.5).width > 600


def test_levels_offsets_and_gates_are_drawn_and_diagnosed(pool: PredictorPool, image: Tensor) -> None:
    tensors = {name: pool.capture_neck_tensors(image, name) for name in ("shapes", "retinanet")}
    mean, active = (render_levels(tensors, mean=mean) for mean in (True, False))
    assert np.asarray(mean).std() > 10
    assert mean.tobytes() != active.tobytes()
    picture, sentences = render_offsets(tensors["shapes"], image, "shapes")
    assert picture is not None
    assert any(line.startswith("offsets C2-C3: mean offset") for line in sentences)
    picture, sentences = render_gates(tensors["shapes"], "shapes")
    assert picture is not None
    assert len(sentences) == 3


def test_a_neck_without_blocks_gets_a_sentence_instead_of_a_picture(pool: PredictorPool, image: Tensor) -> None:
    tensors = pool.capture_neck_tensors(image, "fpn")
    picture, sentences = render_offsets(tensors, image, "fpn")
    assert picture is None
    assert sentences == ["The neck of fpn has no spatial refinement block (SRB), so there are no offsets to show."]
    assert render_gates(tensors, "fpn")[0] is None


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_markdown_shows_a_name_literally(name: str) -> None:
    text = escape_markdown(name)
    assert not set(re.sub(r"&#\d+;", "", text)) & set("\\`*_{}[]()<>#+-!|&$~:\n")
    assert html.unescape(text) == printable(name, None)


def test_a_detector_is_described_by_its_model_data_and_classes() -> None:
    text = detectors_markdown({"mine": load_card(SHIPPED_WEIGHTS)})
    assert text.startswith(
        "- **mine**: faster_rcnn_lite0_drfpn, trained on shapes (3 epochs, box AP 53.1); classes: cross"
    )
