import random
import sys
from typing import Any

import numpy as np
import pytest

from drfpn.data import ShapesDataset
from drfpn.evaluation.analysis import analyze
from drfpn.evaluation.backend import choose_backend
from drfpn.evaluation.bootstrap import interval
from drfpn.evaluation.coco import score
from drfpn.evaluation.confusion import confusion_matrix
from drfpn.evaluation.matching import count_images, find_matches, mean_precision, precisions
from drfpn.evaluation.thresholds import best_threshold
from drfpn.utils.errors import UserError
from tests.evaluation.test_coco import noisy_detections, noisy_masks

A, B, BESIDE_A = [0, 0, 20, 20], [50, 50, 20, 20], [10, 0, 20, 20]


def scene(objects: list[Any], found: list[Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """One image with objects (category, box, crowd) and detections (category, box, score)."""
    annotations = [
        {"id": i, "image_id": 5, "category_id": k, "bbox": box, "area": box[2] * box[3], "iscrowd": crowd}
        for i, (k, box, crowd) in enumerate(objects, start=1)
    ]
    categories = [{"id": 9, "name": "b"}, {"id": 3, "name": "a"}]
    truth = {"images": [{"id": 5, "height": 99, "width": 99}], "annotations": annotations, "categories": categories}
    return truth, [{"image_id": 5, "category_id": k, "bbox": box, "score": s} for k, box, s in found]


@pytest.mark.parametrize(
    ("objects", "found", "expected"),
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
def test_confusions_are_counted_with_background_and_without_crowds(objects, found, expected) -> None:
    np.testing.assert_array_equal(confusion_matrix(*scene(objects, found)), expected)


@pytest.mark.parametrize(
    ("found", "kind", "gain"),
    [
        ([(9, A, 0.9)], "Cls", 1),
        ([(3, BESIDE_A, 0.9)], "Loc", 1),
        ([(9, BESIDE_A, 0.9)], "Both", 0),
        ([(3, A, 0.9), (3, A, 0.8)], "Dupe", 0),
        ([(3, B, 0.9), (3, A, 0.8)], "Bkg", 0.5),
    ],
)
def test_errors_are_of_the_kind_that_tide_names(found, kind, gain) -> None:
    errors = analyze(*scene([(3, A, 0)], found), resamples=0, engine="hotcoco").box.errors
    assert errors is not None
    assert {name for name, count in errors.counts.items() if count and name != "Miss"} == {kind}
    assert errors.delta_ap[kind] == pytest.approx(gain)


def test_the_error_of_a_missed_object_is_what_it_would_add() -> None:
    errors = analyze(*scene([(3, A, 0), (3, B, 0)], [(3, A, 0.9)]), resamples=0, engine="hotcoco").box.errors
    assert errors is not None
    assert errors.counts["Miss"] == 1
    assert errors.delta_ap["Miss"] == pytest.approx(1 - 51 / 101)


def test_the_best_threshold_has_the_best_f1_and_equal_scores_pass_together() -> None:
    objects = [(3, A, 0), (3, B, 0), (3, [80, 0, 10, 10], 0)]
    found = [(3, A, 0.9), (3, B, 0.6), (3, [0, 60, 9, 9], 0.6), (3, [30, 80, 9, 9], 0.2)]
    truth, results = scene(objects, found)
    a, b = find_matches("hotcoco", truth, results, "bbox")
    best = best_threshold(a)
    assert best is not None
    assert best.model_dump() == pytest.approx({"score": 0.6, "f1": 2 / 3, "precision": 2 / 3, "recall": 2 / 3})
    assert best_threshold(b) is None


@pytest.mark.parametrize("engine", ["hotcoco", "pycocotools"])
@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_matches_give_the_ap_of_the_engine(engine, kind) -> None:
    truth = ShapesDataset("val", 12).ground_truth()
    results = noisy_masks(truth)
    metrics = score(truth, results)
    expected = metrics.box if kind == "bbox" else metrics.mask
    rows = results if kind == "bbox" else [{k: v for k, v in row.items() if k != "bbox"} for row in results]
    found = mean_precision([precisions(m) for m in find_matches(engine, truth, rows, kind)])
    assert expected is not None
    assert found == pytest.approx(expected["AP"], abs=1e-12)


def with_copies(rows: list[dict[str, Any]], times: list[int], key: str) -> list[dict[str, Any]]:
    """Repeat the rows of image i ``times[i]`` times under new image ids."""
    copies = []
    for row in rows:
        for copy in range(times[row[key]]):
            copies.append(row | {key: 100 * row[key] + copy})
    return [row | {"id": i} for i, row in enumerate(copies, start=1)] if key == "image_id" else copies


def test_a_resample_is_scored_as_pycocotools_scores_copies_of_its_images() -> None:
    truth = ShapesDataset("val", 15).ground_truth()
    chance = random.Random(1)
    results = [row | {"score": chance.random()} for row in noisy_detections(truth)]  # without ties
    ids = sorted(image["id"] for image in truth["images"])
    times = {image_id: chance.choice([0, 1, 1, 2, 3]) for image_id in ids}
    copied = {
        "images": with_copies(truth["images"], times, "id"),
        "annotations": with_copies(truth["annotations"], times, "image_id"),
        "categories": truth["categories"],
    }
    expected = score(copied, with_copies(results, times, "image_id"), engine="pycocotools").box["AP"]
    weights = np.array([times[image_id] for image_id in ids], dtype=float)
    matches = find_matches("hotcoco", truth, results, "bbox")
    assert mean_precision([precisions(m, weights) for m in matches]) == pytest.approx(expected, abs=1e-12)


def test_an_interval_is_that_of_its_seed_and_of_one_image_a_point() -> None:
    truth = ShapesDataset("val", 15).ground_truth()
    matches = find_matches("hotcoco", truth, noisy_detections(truth), "bbox")
    low, high = interval(matches, resamples=30, seed=3)
    assert 0 < low < high < 1
    assert interval(matches, resamples=30, seed=3) == (low, high)
    assert interval(matches, resamples=30, seed=4) != (low, high)
    alone = find_matches("hotcoco", *scene([(3, A, 0), (3, B, 0)], [(3, A, 0.9)]), "bbox")
    assert interval(alone, resamples=5) == pytest.approx((51 / 101, 51 / 101))


def test_both_engines_give_the_same_metrics_and_analysis() -> None:
    truth = ShapesDataset("val", 12).ground_truth()
    for row in truth["annotations"][::5]:
        row["iscrowd"] = 1
    truth["categories"].append({"id": 99, "name": "unseen"})
    for results in (noisy_masks(truth), []):
        ours = score(truth, results, masks=True, engine="hotcoco").model_dump(exclude={"engine"})
        theirs = score(truth, results, masks=True, engine="pycocotools").model_dump(exclude={"engine"})
        for key in ("box", "mask"):
            assert ours.pop(key) == pytest.approx(theirs.pop(key), abs=1e-12)
        for key in ("per_class", "mask_per_class"):
            mine, other = ours.pop(key), theirs.pop(key)
            assert mine.keys() == other.keys()
            assert all(mine[name] == pytest.approx(other[name], abs=1e-12) for name in mine)
        assert ours == theirs
    results = noisy_detections(truth)
    mine, other = (analyze(truth, results, resamples=3, engine=name).box for name in ("hotcoco", "pycocotools"))
    assert mine.thresholds == other.thresholds
    assert mine.interval == pytest.approx(other.interval)
    assert other.errors is None


def test_the_engine_that_takes_over_is_announced_and_none_is_an_error(monkeypatch, capsys) -> None:
    assert choose_backend() == "hotcoco"
    assert capsys.readouterr().err == ""
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    truth = ShapesDataset("val", 4).ground_truth()
    assert score(truth, noisy_detections(truth)).engine.startswith("pycocotools 2")
    monkeypatch.setitem(sys.modules, "pycocotools.cocoeval", None)
    with pytest.raises(UserError, match="pip install 'hotcoco"):
        score(truth, [])


def test_an_image_s_counts_are_of_what_is_right_false_and_missed() -> None:
    objects = [(3, A, 0), (9, B, 0), (9, [70, 70, 20, 20], 1)]  # the last a crowd
    found = [(3, A, 0.9), (3, A, 0.8), (9, BESIDE_A, 0.7), (9, [70, 70, 20, 20], 0.6), (9, B, 0.4)]
    truth, results = scene(objects, found)
    truth["images"].append({"id": 6, "height": 99, "width": 99})
    for engine in ("hotcoco", "pycocotools"):
        matches = find_matches(engine, truth, results, "bbox")
        counts = count_images(matches)
        assert (counts.right.tolist(), counts.false.tolist(), counts.missed.tolist()) == ([1, 0], [2, 0], [1, 0])
        assert counts.f1.tolist() == [2 / 5, 1.0]
        assert count_images(matches, min_score=0.3).right.tolist() == [2, 0]
