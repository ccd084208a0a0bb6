"""Time of evaluation at COCO's size on synthetic ground truth and detections, compared with pycocotools.

python benchmarks/evaluation.py [--images 5000] [--compare] [--resamples 200]
"""

import argparse
import time
from typing import Any

import numpy as np

from drfpn.evaluation import COCO_METRICS, evaluate_results

CLASSES = 80
OBJECTS, DETECTIONS, SIDE = 7, 100, 640
"""Objects and detections per image, as in val2017, and side of an image in pixels."""


def synthetic(images: int, seed: int = 0) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return ground truth with 7 objects per image, 1 % of them crowds, and 100 detections per image near them."""
    rng = np.random.default_rng(seed)
    count = images * OBJECTS
    sides = np.exp(rng.uniform(np.log(8), np.log(400), (count, 2)))
    boxes = np.concatenate([rng.uniform(0, SIDE - 1, (count, 2)) * (1 - sides / SIDE), sides], axis=1)
    classes = rng.integers(1, CLASSES + 1, count)
    crowd = rng.random(count) < 0.01
    truth = {
        "images": [{"id": i, "height": SIDE, "width": SIDE, "file_name": f"{i}.jpg"} for i in range(1, images + 1)],
        "categories": [{"id": k, "name": f"class {k}"} for k in range(1, CLASSES + 1)],
        "annotations": [
            {"id": i + 1, "image_id": i // OBJECTS + 1, "category_id": k, "bbox": box, "area": box[2] * box[3]}
            | {"iscrowd": int(is_crowd)}
            for i, (k, box, is_crowd) in enumerate(zip(classes.tolist(), boxes.tolist(), crowd.tolist(), strict=True))
        ],
    }
    total = images * DETECTIONS
    image = np.repeat(np.arange(images), DETECTIONS)
    near = image * OBJECTS + rng.integers(0, OBJECTS, total)
    detected = boxes[near] * rng.normal(1, 0.1, (total, 4)).clip(0.5, 1.5)
    labels = np.where(rng.random(total) < 0.7, classes[near], rng.integers(1, CLASSES + 1, total))
    scores = rng.random(total).round(3)  # with ties
    rows = zip((image + 1).tolist(), labels.tolist(), detected.tolist(), scores.tolist(), strict=True)
    return truth, [{"image_id": i, "category_id": k, "bbox": box, "score": s} for i, k, box, s in rows]


def main() -> None:
    """Print the times and the largest difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--compare", action="store_true", help="also evaluate with pycocotools, which takes minutes")
    parser.add_argument("--resamples", type=int, default=200, help="bootstrap resamples; 0 for no analysis")
    options = parser.parse_args()
    truth, results = synthetic(options.images)
    start = time.perf_counter()
    ours = evaluate_results(truth, results)
    print(f"{len(results)} detections, {ours.backend}: {time.perf_counter() - start:.1f} s, AP {ours.box['AP']:.6f}")
    if options.resamples:
        from drfpn.evaluation.analysis import analyze

        start = time.perf_counter()
        analysis = analyze(truth, results, resamples=options.resamples).box
        print(
            f"analysis, {options.resamples} resamples: {time.perf_counter() - start:.1f} s, AP in {analysis.interval}"
        )
    if options.compare:
        start = time.perf_counter()
        theirs = evaluate_results(truth, results, backend="pycocotools")
        worst = max(abs(ours.box[name] - theirs.box[name]) for name in COCO_METRICS)
        print(f"{theirs.backend}: {time.perf_counter() - start:.1f} s, largest difference of a metric {worst:.1e}")


if __name__ == "__main__":
    main()
