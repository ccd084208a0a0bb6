"""Metrics of data without objects, and metrics that earlier versions wrote."""

import json

import pytest

from drfpn.data import ShapesDataset
from drfpn.evaluation import Metrics, analyze, evaluate_results
from drfpn.evaluation.metrics import COCO_METRICS, read_metrics
from tests.evaluation.test_coco import noisy_detections


@pytest.mark.parametrize("detections", [True, False])
@pytest.mark.parametrize("backend", ["hotcoco", "pycocotools"])
def test_metrics_without_objects_are_none_and_null_in_json(backend, detections) -> None:
    ground_truth = ShapesDataset("val", 2).ground_truth()
    results = noisy_detections(ground_truth) if detections else []
    nothing = {**ground_truth, "annotations": []}
    metrics = evaluate_results(nothing, results, backend=backend)
    assert metrics.main_metric is None
    assert metrics.summary() == dict.fromkeys(COCO_METRICS)
    analysis = analyze(nothing, results, resamples=2, backend=backend)
    assert analysis.box.ap is None
    assert analysis.box.interval is None
    for saved in (metrics.model_dump_json(), json.dumps(analysis.model_dump(), allow_nan=False)):
        assert "-1" not in saved


def test_only_classes_without_objects_have_no_ap() -> None:
    ground_truth = ShapesDataset("val", 4).ground_truth()
    category = ground_truth["categories"][0]
    kept = [row for row in ground_truth["annotations"] if row["category_id"] != category["id"]]
    metrics = evaluate_results({**ground_truth, "annotations": kept}, noisy_detections(ground_truth))
    assert metrics.per_class[category["name"]] == {"AP": None, "AP50": None}
    assert metrics.main_metric is not None
    defined = [of["AP"] for of in metrics.per_class.values() if of["AP"] is not None]
    assert metrics.box["AP"] == pytest.approx(sum(defined) / len(defined), abs=1e-9)


def test_minus_one_of_earlier_versions_is_none() -> None:
    box = dict.fromkeys(COCO_METRICS, 0.5) | {"APl": -1.0}
    details = {"ap": -1.0, "interval": [-1.0, -1.0]}
    old = {"engine": "hotcoco", "split": "val", "images": 1, "detections": 0, "box": box}
    old |= {"per_class": {"bolt": {"AP": -1.0, "AP50": 0.0}}, "analysis": {"engine": "hotcoco", "box": details}}
    read = read_metrics(json.dumps(old))
    assert read["box"] == box | {"APl": None}
    assert read["per_class"] == {"bolt": {"AP": None, "AP50": 0.0}}
    assert read["analysis"]["box"] == {"ap": None, "interval": None}
    assert Metrics.model_validate(old).box["APl"] is None
