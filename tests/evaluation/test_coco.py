import contextlib
import io
import json
import random
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.models.detection.roi_heads import paste_masks_in_image

from drfpn.data import ShapesDataset, open_dataset
from drfpn.data.masks.rle import decode, encode
from drfpn.evaluation import COCO_METRICS, Analysis, analyze, evaluate_results
from drfpn.evaluation.coco import to_results
from drfpn.evaluation.metrics import Metrics, read_metrics
from drfpn.utils.errors import UserError


def noisy_detections(ground_truth: dict[str, Any], seed: int = 0) -> list[dict[str, Any]]:
    """Move, drop, relabel and invent boxes."""
    chance = random.Random(seed)
    categories = [category["id"] for category in ground_truth["categories"]]
    results = []
    for annotation in ground_truth["annotations"]:
        for _ in range(chance.randint(0, 3)):
            category = annotation["category_id"] if chance.random() < 0.8 else chance.choice(categories)
            box = [value + chance.gauss(0, 4) for value in annotation["bbox"]]
            box = [*box[:2], max(box[2], 1.0), max(box[3], 1.0)]
            row = {"image_id": annotation["image_id"], "category_id": category, "bbox": box}
            results.append(row | {"score": round(chance.random(), 1)})  # ties
    return results


def noisy_masks(ground_truth: dict[str, Any], seed: int = 0) -> list[dict[str, Any]]:
    """Shift, erode and relabel the masks of the ground truth; their boxes are off on purpose."""
    rng = np.random.default_rng(seed)
    sizes = {image["id"]: (image["height"], image["width"]) for image in ground_truth["images"]}
    results = noisy_detections(ground_truth, seed)
    of_image: dict[int, list[Any]] = {}
    for annotation in ground_truth["annotations"]:
        of_image.setdefault(annotation["image_id"], []).append(annotation)
    for row in results:
        annotation = of_image[row["image_id"]][rng.integers(len(of_image[row["image_id"]]))]
        mask = decode(annotation["segmentation"], *sizes[row["image_id"]])
        mask = np.roll(mask, rng.integers(-3, 4, 2), (0, 1)) * (rng.random(mask.shape) > rng.random() * 0.4)
        row["segmentation"] = encode(mask.astype(bool))
        row["category_id"] = annotation["category_id"]
    return results


def pycocotools_evaluation(
    ground_truth: dict[str, Any], results: list[dict[str, Any]], iou_type: str = "bbox"
) -> COCOeval:
    if iou_type == "segm":  # with a box, pycocotools takes its area for that of the mask
        results = [{key: value for key, value in row.items() if key != "bbox"} for row in results]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = json.loads(json.dumps(ground_truth))
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(json.loads(json.dumps(results))), iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def pycocotools_stats(
    ground_truth: dict[str, Any], results: list[dict[str, Any]], iou_type: str = "bbox"
) -> list[float]:
    return list(pycocotools_evaluation(ground_truth, results, iou_type).stats)


@pytest.mark.parametrize("seed", [0, 1])
def test_numbers_equal_pycocotools(seed: int) -> None:
    ground_truth = ShapesDataset("val", 30).ground_truth()
    results = noisy_detections(ground_truth, seed)
    ours = evaluate_results(ground_truth, results)
    np.testing.assert_allclose(
        [ours.box[name] for name in COCO_METRICS], pycocotools_stats(ground_truth, results), atol=1e-9
    )


@pytest.mark.parametrize("seed", range(10))
def test_numbers_equal_pycocotools_on_real_annotations_with_crowd(assets, seed) -> None:
    ground_truth = json.loads((assets / "coco/annotations/instances_val2017.json").read_text())
    results = noisy_detections(ground_truth, seed)
    ours = evaluate_results(ground_truth, results)
    np.testing.assert_allclose(
        [ours.box[name] for name in COCO_METRICS], pycocotools_stats(ground_truth, results), atol=1e-9
    )


def assert_masks_are_evaluated_as_by_pycocotools(ground_truth: dict[str, Any], results: list[dict[str, Any]]) -> None:
    ours = evaluate_results(ground_truth, results)
    assert ours.mask is not None
    assert ours.mask_per_class is not None
    np.testing.assert_allclose(
        [ours.box[name] for name in COCO_METRICS], pycocotools_stats(ground_truth, results), atol=1e-9
    )
    theirs = pycocotools_evaluation(ground_truth, results, "segm")
    np.testing.assert_allclose([ours.mask[name] for name in COCO_METRICS], theirs.stats, atol=1e-9)
    names = {category["id"]: category["name"] for category in ground_truth["categories"]}
    for k, category in enumerate(theirs.params.catIds):
        precision = theirs.eval["precision"][:, :, k, 0, -1]
        expected = precision[precision > -1].mean() if (precision > -1).any() else None
        assert ours.mask_per_class[names[category]]["AP"] == pytest.approx(expected, abs=1e-9)
    assert ours.box["AP"] != ours.mask["AP"]


@pytest.mark.parametrize("seed", [0, 1])
def test_masks_are_evaluated_as_by_pycocotools(seed: int) -> None:
    ground_truth = ShapesDataset("val", 12).ground_truth()
    assert_masks_are_evaluated_as_by_pycocotools(ground_truth, noisy_masks(ground_truth, seed))


@pytest.mark.parametrize("seed", range(3))
def test_masks_of_real_annotations_with_crowd_are_evaluated_as_by_pycocotools(assets, seed) -> None:
    ground_truth = open_dataset(str(assets / "coco"), "val", masks=True).ground_truth()
    assert any(annotation["iscrowd"] for annotation in ground_truth["annotations"])
    assert_masks_are_evaluated_as_by_pycocotools(ground_truth, noisy_masks(ground_truth, seed))


def test_masks_are_evaluated_only_where_detections_and_truth_have_them() -> None:
    ground_truth = ShapesDataset("val", 4).ground_truth()
    results = noisy_masks(ground_truth)
    boxes = [{key: value for key, value in row.items() if key != "segmentation"} for row in results]
    assert evaluate_results(ground_truth, boxes).mask is None
    assert evaluate_results(ground_truth, results, masks=False).mask is None
    nothing = evaluate_results(ground_truth, [], masks=True)  # no detection can show that it would have had a mask
    assert nothing.mask is not None
    assert nothing.mask["AP"] == 0
    with pytest.raises(UserError, match="detection at index 1 has no segmentation"):
        evaluate_results(ground_truth, [results[0], boxes[1]])
    del ground_truth["annotations"][0]["segmentation"]
    with pytest.raises(UserError, match="object of the ground truth at index 0 has no segmentation"):
        evaluate_results(ground_truth, results)


def test_masks_of_an_output_become_results_from_one_half_on() -> None:
    """Pasted into the image as torchvision does, from crops of the boxes."""
    crops = torch.rand(3, 1, 28, 28)
    boxes = torch.tensor([[1.0, 2, 40, 30], [-3, 5, 20, 33], [0, 0, 60, 40]])
    output = {"boxes": boxes, "labels": torch.tensor([1, 2, 1]), "scores": torch.rand(3)}
    rows = json.loads(json.dumps(to_results({**output, "crops": crops}, 7, (10, 90), (40, 60))))
    for row, mask in zip(rows, paste_masks_in_image(crops, boxes, (40, 60)), strict=True):
        np.testing.assert_array_equal(decode(row["segmentation"], 40, 60), (mask[0] >= 0.5).numpy())
        assert isinstance(row["segmentation"]["counts"], str)
    assert rows[0]["bbox"] == [1, 2, 39, 28]
    assert all("segmentation" not in row for row in to_results(output, 7, (10, 90), (40, 60)))


def test_the_truth_itself_scores_one_and_class_numbers_average_to_the_whole() -> None:
    ground_truth = ShapesDataset("val", 20).ground_truth()
    perfect = [
        {key: annotation[key] for key in ("image_id", "category_id", "bbox")} | {"score": 1.0}
        for annotation in ground_truth["annotations"]
    ]
    assert evaluate_results(ground_truth, perfect).box["AP"] == pytest.approx(1)
    noisy = evaluate_results(ground_truth, noisy_detections(ground_truth))
    assert np.mean([row["AP"] for row in noisy.per_class.values()]) == pytest.approx(noisy.box["AP"])
    assert np.mean([row["AP50"] for row in noisy.per_class.values()]) == pytest.approx(noisy.box["AP50"])


def test_no_detection_at_all_scores_zero(capsys) -> None:
    metrics = evaluate_results(ShapesDataset("val", 10).ground_truth(), [])
    assert metrics.box["AP"] == 0
    assert metrics.detections == 0
    assert capsys.readouterr().out == ""  # stdout is the caller's


def test_a_class_without_objects_has_no_number() -> None:
    ground_truth = ShapesDataset("val", 10).ground_truth()
    ground_truth["categories"].append({"id": 99, "name": "unseen"})
    assert evaluate_results(ground_truth, noisy_detections(ground_truth)).per_class["unseen"] == {
        "AP": None,
        "AP50": None,
    }


def test_metrics_of_earlier_versions_are_read() -> None:
    """They name the backend ``engine`` and the diagnoses of the neck ``pyramid``."""
    ground_truth = ShapesDataset("val", 2).ground_truth()
    metrics, analysis = evaluate_results(ground_truth, []), analyze(ground_truth, [], resamples=0)
    neck = {"image": "0", "images": 1, "offsets": [], "weights": [], "gates": []}
    stored = metrics.model_dump() | {"analysis": analysis.model_dump(), "neck": neck}
    old = {("engine" if key == "backend" else key): value for key, value in stored.items() if key != "neck"}
    old["analysis"] = {("engine" if key == "backend" else key): value for key, value in stored["analysis"].items()}
    text = json.dumps(old | {"pyramid": neck})
    assert "backend" not in text
    assert Metrics.model_validate_json(text) == metrics
    assert Analysis.model_validate(old["analysis"]) == analysis
    assert read_metrics(text) == json.loads(json.dumps(stored))


def test_the_main_metric_is_the_ap_of_masks_if_there_are_masks() -> None:
    ground_truth = ShapesDataset("val", 4).ground_truth()
    metrics = evaluate_results(ground_truth, noisy_masks(ground_truth))
    assert metrics.mask is not None
    assert metrics.main_metric == metrics.mask["AP"] != metrics.box["AP"]
    assert metrics.model_copy(update={"mask": None}).main_metric == metrics.box["AP"]
