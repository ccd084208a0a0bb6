"""Examples of detections beside the ground truth for the report of a run: the images with the best and worst F1."""

from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel

from drfpn.data import DetectionDataset
from drfpn.detectors.base import DetectionModel
from drfpn.detectors.postprocess import paste_masks
from drfpn.evaluation.matching import ImageCounts
from drfpn.visualization.boxes import draw_boxes, side_by_side


class Example(BaseModel):
    """An image that is drawn with its ground truth and detections, and its counts at IoU 0.5."""

    index: int
    """Index of the image in its data set."""
    file: str
    """Name of the picture."""
    kind: str
    """``"best"`` or ``"worst"``."""
    f1: float
    right: int
    """True positives."""
    false: int
    """False positives."""
    missed: int
    """False negatives."""


def draw_examples(
    model: DetectionModel,
    dataset: DetectionDataset,
    counts: ImageCounts,
    folder: Path,
    number: int,
    *,
    score_threshold: float = 0.5,
) -> list[Example]:
    """Draw ground truth and detections side by side for the images with the best and the worst F1.

    Among images of equal F1, those with more objects or more errors are drawn. Images of a small data set are all
    drawn, once each.

    Args:
        model: a detector in evaluation mode.
        dataset: images with the model's classes.
        counts: counts of its detections on each image.
        folder: folder of the pictures, created if missing.
        number: number of pictures.
        score_threshold: detections with lower scores are not drawn; the one of ``counts``.
    """
    position = {image_id: i for i, image_id in enumerate(sorted(dataset.image_id(i) for i in range(len(dataset))))}
    rows = np.array([position[dataset.image_id(i)] for i in range(len(dataset))], dtype=np.int64)
    f1, tp = counts.f1[rows], counts.true_positives[rows]
    fp, fn = counts.false_positives[rows], counts.false_negatives[rows]
    order = np.lexsort((-(tp + fn), -tp, -f1))  # best first
    number = min(number, len(dataset))
    best = order[: number - number // 2]
    worst = np.lexsort((-(fp + fn), f1))
    worst = worst[~np.isin(worst, best)][: number // 2]
    folder.mkdir(parents=True, exist_ok=True)
    examples: list[Example] = []
    for kind, indices in (("best", best), ("worst", worst)):
        for i in map(int, indices):
            stem = Path(dataset.name(i)).stem
            # images of two folders may share a name
            taken = any(example.file == f"{stem}.jpg" for example in examples)
            file = folder / (f"{stem}-{i}.jpg" if taken else f"{stem}.jpg")
            _draw_example(model, dataset, i, file, score_threshold)
            numbers = {"right": int(tp[i]), "false": int(fp[i]), "missed": int(fn[i])}
            examples.append(Example(index=i, file=file.name, kind=kind, f1=float(f1[i]), **numbers))
    return examples


def _draw_example(
    model: DetectionModel, dataset: DetectionDataset, index: int, file: Path, score_threshold: float
) -> None:
    device = next(model.parameters()).device
    image, target = dataset[index]
    with torch.inference_mode():
        output = model.detect([image.to(device)])[0]
    keep = output["scores"] >= score_threshold
    output = {key: value[keep].cpu() for key, value in output.items()}
    boxes, labels, scores = (output[key] for key in ("boxes", "labels", "scores"))
    masks = paste_masks(output["crops"], boxes, image.shape[-2:]) if "crops" in output else None
    ground_truth = draw_boxes(image, target["boxes"], target["labels"], dataset.classes, masks=target.get("masks"))
    detections = draw_boxes(image, boxes, labels, dataset.classes, scores, masks=masks)
    titles = ["ground truth", f"detections (score >= {score_threshold})"]
    side_by_side([ground_truth, detections], titles).save(file, quality=90)
