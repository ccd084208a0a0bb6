import contextlib
import io
import json
import random
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from drfpn.data import ShapesDataset
from drfpn.engine import score
from drfpn.engine.evaluate import NUMBERS


def noisy_detections(truth: dict[str, Any], seed: int = 0) -> list[dict[str, Any]]:
    """Move, drop, relabel and invent boxes."""
    chance = random.Random(seed)
    categories = [category["id"] for category in truth["categories"]]
    results = []
    for annotation in truth["annotations"]:
        for _ in range(chance.randint(0, 3)):
            category = annotation["category_id"] if chance.random() < 0.8 else chance.choice(categories)
            box = [value + chance.gauss(0, 4) for value in annotation["bbox"]]
            box = [*box[:2], max(box[2], 1.0), max(box[3], 1.0)]
            row = {"image_id": annotation["image_id"], "category_id": category, "bbox": box}
            results.append(row | {"score": round(chance.random(), 1)})  # ties
    return results


def pycocotools_numbers(truth: dict[str, Any], results: list[dict[str, Any]]) -> list[float]:
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = json.loads(json.dumps(truth))
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(json.loads(json.dumps(results))), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return list(evaluation.stats)


@pytest.mark.parametrize("seed", [0, 1])
def test_numbers_equal_pycocotools(seed: int) -> None:
    truth = ShapesDataset("val", 30).ground_truth()
    results = noisy_detections(truth, seed)
    ours = score(truth, results)
    np.testing.assert_allclose([ours.box[name] for name in NUMBERS], pycocotools_numbers(truth, results), atol=1e-9)


def test_numbers_equal_pycocotools_on_real_annotations_with_crowd(shared) -> None:
    truth = json.loads((shared / "coco-mini/annotations/instances_val2017.json").read_text())
    results = noisy_detections(truth)
    ours = score(truth, results)
    np.testing.assert_allclose([ours.box[name] for name in NUMBERS], pycocotools_numbers(truth, results), atol=1e-9)


def test_the_truth_itself_scores_one_and_class_numbers_average_to_the_whole() -> None:
    truth = ShapesDataset("val", 20).ground_truth()
    perfect = [
        {key: annotation[key] for key in ("image_id", "category_id", "bbox")} | {"score": 1.0}
        for annotation in truth["annotations"]
    ]
    assert score(truth, perfect).box["AP"] == pytest.approx(1)
    noisy = score(truth, noisy_detections(truth))
    assert np.mean([row["AP"] for row in noisy.per_class.values()]) == pytest.approx(noisy.box["AP"])
    assert np.mean([row["AP50"] for row in noisy.per_class.values()]) == pytest.approx(noisy.box["AP50"])


def test_no_detection_at_all_scores_zero(capsys) -> None:
    metrics = score(ShapesDataset("val", 10).ground_truth(), [])
    assert metrics.box["AP"] == 0
    assert metrics.detections == 0
    assert capsys.readouterr().out == ""  # stdout is the caller's


def test_a_class_without_objects_has_no_number() -> None:
    truth = ShapesDataset("val", 10).ground_truth()
    truth["categories"].append({"id": 99, "name": "unseen"})
    assert score(truth, noisy_detections(truth)).per_class["unseen"] == {"AP": -1, "AP50": -1}
