import random
import sys
from typing import Any

import numpy as np
import pytest

from drfpn.data import ShapesDataset
from drfpn.evaluation.analysis import analyze
from drfpn.evaluation.backend import choose_backend
from drfpn.evaluation.bootstrap import bootstrap_interval
from drfpn.evaluation.coco import evaluate_results
from drfpn.evaluation.confusion import confusion_matrix
from drfpn.evaluation.matching import count_per_image, interpolated_precision, match_detections, mean_average_precision
from drfpn.evaluation.thresholds import best_f1_threshold
from drfpn.utils.errors import UserError
from tests.evaluation.test_coco import noisy_detections, noisy_masks

A, B, BESIDE_A = [0, 0, 20, 20], [50, 50, 20, 20], [10, 0, 20, 20]


def scene(objects: list[Any], detections: list[Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """One image with objects (category, box, crowd) and detections (category, box, score)."""
    annotations = [
        {"id": i, "image_id": 5, "category_id": k, "bbox": box, "area": box[2] * box[3], "iscrowd": crowd}
        for i, (k, box, crowd) in enumerate(objects, start=1)
    ]
    categories = [{"id": 9, "name": "b"}, {"id": 3, "name": "a"}]
    ground_truth = {
        "images": [{"id": 5, "height": 99, "width": 99}],
        "annotations": annotations,
        "categories": categories,
    }
    return ground_truth, [{"image_id": 5, "category_id": k, "bbox": box, "score": s} for k, box, s in detections]


@pytest.mark.parametrize(
    ("objects", "detections", "expected"),
    [
        ([(3, A, 0)], [(3, A, 0.9)], [[1, 0, 0], [0, 0, 0], [0, 0, 0]]),
        ([(3, A, 0)], [(9, A, 0.9)], [[0, 1, 0], [0, 0, 0], [0, 0, 0]]),
        ([(3, A, 0)], [(3, A, 0.4)], [[0, 0, 1], [0, 0, 0], [0, 0, 0]]),
        ([(3, A, 0)], [(3, A, 0.9), (3, A, 0.8)], [[1, 0, 0], [0, 0, 0], [1, 0, 0]]),
        ([(3, A, 0)], [(9, A, 0.9), (3, A, 0.8)], [[1, 0, 0], [0, 0, 0], [0, 1, 0]]),
        ([(3, A, 1), (9, B, 0)], [(3, A, 0.9), (3, A, 0.8), (9, A, 0.7)], [[0, 0, 0], [0, 0, 1], [0, 1, 0]]),
        ([], [(9, B, 0.9)], [[0, 0, 0], [0, 0, 0], [0, 1, 0]]),
        ([(3, A, 0)], [(3, BESIDE_A, 0.9)], [[0, 0, 1], [0, 0, 0], [1, 0, 0]]),
    ],
)
def test_confusions_are_counted_with_background_and_without_crowds(objects, detections, expected) -> None:
    np.testing.assert_array_equal(confusion_matrix(*scene(objects, detections)), expected)


@pytest.mark.parametrize(
    ("detections", "error_type", "gain"),
    [
        ([(9, A, 0.9)], "Cls", 1),
        ([(3, BESIDE_A, 0.9)], "Loc", 1),
        ([(9, BESIDE_A, 0.9)], "Both", 0),
        ([(3, A, 0.9), (3, A, 0.8)], "Dupe", 0),
        ([(3, B, 0.9), (3, A, 0.8)], "Bkg", 0.5),
    ],
)
def test_errors_are_of_the_types_of_tide(detections, error_type, gain) -> None:
    errors = analyze(*scene([(3, A, 0)], detections), resamples=0, backend="hotcoco").box.errors
    assert errors is not None
    assert {name for name, count in errors.counts.items() if count and name != "Miss"} == {error_type}
    assert errors.delta_ap[error_type] == pytest.approx(gain)


def test_the_error_of_a_missed_object_is_what_it_would_add() -> None:
    errors = analyze(*scene([(3, A, 0), (3, B, 0)], [(3, A, 0.9)]), resamples=0, backend="hotcoco").box.errors
    assert errors is not None
    assert errors.counts["Miss"] == 1
    assert errors.delta_ap["Miss"] == pytest.approx(1 - 51 / 101)


def test_the_best_threshold_has_the_best_f1_and_equal_scores_pass_together() -> None:
    objects = [(3, A, 0), (3, B, 0), (3, [80, 0, 10, 10], 0)]
    detections = [(3, A, 0.9), (3, B, 0.6), (3, [0, 60, 9, 9], 0.6), (3, [30, 80, 9, 9], 0.2)]
    ground_truth, results = scene(objects, detections)
    a, b = match_detections("hotcoco", ground_truth, results, "bbox")
    best = best_f1_threshold(a)
    assert best is not None
    assert best.model_dump() == pytest.approx({"score": 0.6, "f1": 2 / 3, "precision": 2 / 3, "recall": 2 / 3})
    assert best_f1_threshold(b) is None


@pytest.mark.parametrize("backend", ["hotcoco", "pycocotools"])
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_matches_give_the_ap_of_the_backend(backend, iou_type) -> None:
    ground_truth = ShapesDataset("val", 12).ground_truth()
    results = noisy_masks(ground_truth)
    metrics = evaluate_results(ground_truth, results)
    expected = metrics.box if iou_type == "bbox" else metrics.mask
    rows = results if iou_type == "bbox" else [{k: v for k, v in row.items() if k != "bbox"} for row in results]
    matches = match_detections(backend, ground_truth, rows, iou_type)
    assert expected is not None
    ap = mean_average_precision([interpolated_precision(of_class) for of_class in matches])
    assert ap == pytest.approx(expected["AP"], abs=1e-12)


def with_copies(rows: list[dict[str, Any]], times: list[int], key: str) -> list[dict[str, Any]]:
    """Repeat the rows of image i ``times[i]`` times under new image ids."""
    copies = []
    for row in rows:
        for copy in range(times[row[key]]):
            copies.append(row | {key: 100 * row[key] + copy})
    return [row | {"id": i} for i, row in enumerate(copies, start=1)] if key == "image_id" else copies


def test_a_resample_is_evaluated_as_pycocotools_evaluates_copies_of_its_images() -> None:
    ground_truth = ShapesDataset("val", 15).ground_truth()
    chance = random.Random(1)
    results = [row | {"score": chance.random()} for row in noisy_detections(ground_truth)]  # without ties
    ids = sorted(image["id"] for image in ground_truth["images"])
    times = {image_id: chance.choice([0, 1, 1, 2, 3]) for image_id in ids}
    copied = {
        "images": with_copies(ground_truth["images"], times, "id"),
        "annotations": with_copies(ground_truth["annotations"], times, "image_id"),
        "categories": ground_truth["categories"],
    }
    expected = evaluate_results(copied, with_copies(results, times, "image_id"), backend="pycocotools").box["AP"]
    weights = np.array([times[image_id] for image_id in ids], dtype=float)
    matches = match_detections("hotcoco", ground_truth, results, "bbox")
    assert mean_average_precision([interpolated_precision(m, weights) for m in matches]) == pytest.approx(
        expected, abs=1e-12
    )


def test_an_interval_is_that_of_its_seed_and_of_one_image_a_point() -> None:
    ground_truth = ShapesDataset("val", 15).ground_truth()
    matches = match_detections("hotcoco", ground_truth, noisy_detections(ground_truth), "bbox")
    low, high = bootstrap_interval(matches, resamples=30, seed=3)
    assert 0 < low < high < 1
    assert bootstrap_interval(matches, resamples=30, seed=3) == (low, high)
    assert bootstrap_interval(matches, resamples=30, seed=4) != (low, high)
    alone = match_detections("hotcoco", *scene([(3, A, 0), (3, B, 0)], [(3, A, 0.9)]), "bbox")
    assert bootstrap_interval(alone, resamples=5) == pytest.approx((51 / 101, 51 / 101))


def test_both_backends_give_the_same_metrics_and_analysis() -> None:
    ground_truth = ShapesDataset("val", 12).ground_truth()
    for row in ground_truth["annotations"][::5]:
        row["iscrowd"] = 1
    ground_truth["categories"].append({"id": 99, "name": "unseen"})
    for results in (noisy_masks(ground_truth), []):
        ours = evaluate_results(ground_truth, results, masks=True, backend="hotcoco").model_dump(exclude={"backend"})
        theirs = evaluate_results(ground_truth, results, masks=True, backend="pycocotools").model_dump(
            exclude={"backend"}
        )
        for key in ("box", "mask"):
            assert ours.pop(key) == pytest.approx(theirs.pop(key), abs=1e-12)
        for key in ("per_class", "mask_per_class"):
            mine, other = ours.pop(key), theirs.pop(key)
            assert mine.keys() == other.keys()
            assert all(mine[name] == pytest.approx(other[name], abs=1e-12) for name in mine)
        assert ours == theirs
    results = noisy_detections(ground_truth)
    mine, other = (analyze(ground_truth, results, resamples=3, backend=name).box for name in ("hotcoco", "pycocotools"))
    assert mine.thresholds == other.thresholds
    assert mine.interval == pytest.approx(other.interval)
    assert other.errors is None


def test_the_fallback_is_logged_and_no_backend_at_all_is_an_error(monkeypatch, caplog) -> None:
    assert choose_backend() == "hotcoco"
    assert not caplog.records
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    ground_truth = ShapesDataset("val", 4).ground_truth()
    assert evaluate_results(ground_truth, noisy_detections(ground_truth)).backend.startswith("pycocotools 2")
    assert "evaluating with pycocotools" in caplog.text
    monkeypatch.setitem(sys.modules, "pycocotools.cocoeval", None)
    with pytest.raises(UserError, match="pip install 'hotcoco"):
        evaluate_results(ground_truth, [])


def test_counts_of_an_image_are_its_true_positives_false_positives_and_false_negatives() -> None:
    objects = [(3, A, 0), (9, B, 0), (9, [70, 70, 20, 20], 1)]  # the last a crowd
    detections = [(3, A, 0.9), (3, A, 0.8), (9, BESIDE_A, 0.7), (9, [70, 70, 20, 20], 0.6), (9, B, 0.4)]
    ground_truth, results = scene(objects, detections)
    ground_truth["images"].append({"id": 6, "height": 99, "width": 99})
    for backend in ("hotcoco", "pycocotools"):
        matches = match_detections(backend, ground_truth, results, "bbox")
        counts = count_per_image(matches)
        assert counts.true_positives.tolist() == [1, 0]
        assert counts.false_positives.tolist() == [2, 0]
        assert counts.false_negatives.tolist() == [1, 0]
        assert counts.f1.tolist() == [2 / 5, 1.0]
        assert count_per_image(matches, score_threshold=0.3).true_positives.tolist() == [2, 0]
