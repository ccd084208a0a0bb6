"""Pictures of what a detector finds on a data set, beside the truth: where it does best and where worst."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import BaseModel

from drfpn.data import DetectionDataset
from drfpn.detectors.postprocess import all_masks
from drfpn.visualization.boxes import draw, side_by_side

if TYPE_CHECKING:
    from drfpn.evaluation.matching import ImageCounts


class Example(BaseModel):
    """A picture of an image with its objects beside what was found."""

    index: int
    """Of the image in its data set."""
    file: str
    """In the folder of the pictures."""
    kind: str
    """``"best"`` or ``"worst"``."""
    f1: float
    """At IoU 0.5."""
    right: int
    false: int
    missed: int


def draw_examples(
    model: Any,
    dataset: DetectionDataset,
    counts: "ImageCounts",
    folder: Path,
    number: int,
    *,
    min_score: float = 0.5,
) -> list[Example]:
    """Draw truth and detections side by side for the images that a detector did best and worst on, by F1.

    Of equals, those with more objects or more errors go first. Few images are all drawn, once each.

    Args:
        model: a detector in evaluation mode.
        dataset: images with the model's classes.
        counts: of what it found in each of them.
        folder: where the pictures go, made if missing.
        number: how many in all.
        min_score: detections below are not drawn; as in ``counts``.
    """
    place = {image_id: i for i, image_id in enumerate(sorted(dataset.image_id(i) for i in range(len(dataset))))}
    rows = np.array([place[dataset.image_id(i)] for i in range(len(dataset))], dtype=np.int64)
    f1, right, false, missed = (a[rows] for a in (counts.f1, counts.right, counts.false, counts.missed))
    order = np.lexsort((-(right + missed), -right, -f1))  # best first
    number = min(number, len(dataset))
    best = order[: number - number // 2]
    worst = np.lexsort((-(false + missed), f1))
    worst = worst[~np.isin(worst, best)][: number // 2]
    folder.mkdir(parents=True, exist_ok=True)
    examples = []
    for kind, chosen in (("best", best), ("worst", worst)):
        for i in map(int, chosen):
            file = folder / f"{Path(dataset.name(i)).stem}.jpg"
            _draw(model, dataset, i, file, min_score)
            numbers = {"right": int(right[i]), "false": int(false[i]), "missed": int(missed[i])}
            examples.append(Example(index=i, file=file.name, kind=kind, f1=float(f1[i]), **numbers))
    return examples


def _draw(model: Any, dataset: DetectionDataset, index: int, file: Path, min_score: float) -> None:
    device = next(model.parameters()).device
    image, target = dataset[index]
    with torch.inference_mode():
        found = model.detect([image.to(device)])[0]
    keep = found["scores"] >= min_score
    found = {key: value[keep].cpu() for key, value in found.items()}
    boxes, labels, scores = (found[key] for key in ("boxes", "labels", "scores"))
    masks = all_masks(found["crops"], boxes, image.shape[-2:]) if "crops" in found else None
    truth = draw(image, target["boxes"], target["labels"], dataset.classes, masks=target.get("masks"))
    result = draw(image, boxes, labels, dataset.classes, scores, masks=masks)
    side_by_side([truth, result], ["annotated", f"found (score at least {min_score})"]).save(file, quality=90)
