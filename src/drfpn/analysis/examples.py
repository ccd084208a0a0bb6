"""Pictures of what a detector finds on a data set, beside the truth."""

from pathlib import Path
from typing import Any

import torch

from drfpn.analysis.draw import draw, side_by_side
from drfpn.data import DetectionDataset
from drfpn.detectors.inference import all_masks


def draw_examples(
    model: Any, dataset: DetectionDataset, folder: Path, number: int, *, min_score: float = 0.5
) -> list[Path]:
    """Draw truth and detections side by side for ``number`` images spread over a data set.

    Images with objects go first; the others only fill up.

    Args:
        model: a detector in evaluation mode.
        dataset: images with the model's classes.
        folder: where the pictures go, made if missing.
        number: how many.
        min_score: detections below are not drawn.

    Returns:
        The files written.
    """
    device = next(model.parameters()).device
    annotated = {annotation["image_id"] for annotation in dataset.ground_truth()["annotations"]}
    indices = sorted(range(len(dataset)), key=lambda i: dataset.image_id(i) not in annotated)
    indices = indices[: max(number, len(annotated))]
    chosen = [indices[i * len(indices) // number] for i in range(min(number, len(indices)))]
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for i in chosen:
        image, target = dataset[i]
        with torch.inference_mode():
            found = model.detect([image.to(device)])[0]
        keep = found["scores"] >= min_score
        found = {key: value[keep].cpu() for key, value in found.items()}
        boxes, labels, scores = (found[key] for key in ("boxes", "labels", "scores"))
        masks = all_masks(found["crops"], boxes, image.shape[-2:]) if "crops" in found else None
        truth = draw(image, target["boxes"], target["labels"], dataset.classes, masks=target.get("masks"))
        result = draw(image, boxes, labels, dataset.classes, scores, masks=masks)
        file = folder / f"{Path(dataset.name(i)).stem}.jpg"
        side_by_side([truth, result], ["annotated", f"found (score at least {min_score})"]).save(file, quality=90)
        files.append(file)
    return files
