"""Comparison of the outputs of an exported detector with those of the original one."""

from collections.abc import Sequence

import torch
from pydantic import BaseModel
from torch import Tensor

from drfpn.detectors.base import CanDetect
from drfpn.utils.console import bar

TEST_IMAGE_SIZES = ((97, 131), (131, 98), (75, 333), (480, 271))
"""Height and width of the test images in pixels; none is the size that is traced."""
_MAX_BOX_DIFFERENCE = 1.0
"""Boxes of the same class match if no coordinate differs by more, in pixels."""


class OutputDifferences(BaseModel):
    """Numbers of matched detections of two detectors, and the greatest differences between them."""

    images: int
    """Number of images."""
    detections: int
    """Number of detections of the original detector."""
    matched: int
    """Number of them that the exported one has too: same class, coordinates within a pixel."""
    boxes: float
    """Greatest difference of a coordinate, in pixels."""
    scores: float
    """Greatest difference of a score."""
    masks: float | None = None
    """Greatest difference of a mask probability; ``None`` for detectors without masks."""


def compare_outputs(model: CanDetect, exported: CanDetect, images: Sequence[Tensor]) -> OutputDifferences:
    """Run a detector and its exported copy on images and compare their detections.

    Args:
        model: the original detector, on the CPU.
        exported: the exported detector.
        images: (3, H, W) each, uint8.
    """
    differences = OutputDifferences(images=len(images), detections=0, matched=0, boxes=0, scores=0)
    with bar("comparing", len(images)) as progress, torch.inference_mode():
        for image in images:
            (expected,), (actual,) = model.detect([image]), exported.detect([image])
            differences.detections += len(expected["scores"])
            _update(differences, expected, actual)
            progress.advance()
    return differences


def _update(differences: OutputDifferences, expected: dict[str, Tensor], actual: dict[str, Tensor]) -> None:
    """Match the detections of an image, each with the closest one of its class, and update counts and maxima."""
    if not len(expected["scores"]) or not len(actual["scores"]):
        return
    box_difference = (expected["boxes"][:, None] - actual["boxes"]).abs().amax(-1)  # (D, D')
    score_difference = (expected["scores"][:, None] - actual["scores"]).abs()
    other_class = expected["labels"][:, None] != actual["labels"]
    closest = (box_difference + score_difference).masked_fill(other_class, torch.inf).argmin(dim=1, keepdim=True)
    matched = ~other_class.gather(1, closest)[:, 0] & (box_difference.gather(1, closest)[:, 0] <= _MAX_BOX_DIFFERENCE)
    if not matched.any():
        return
    differences.matched += int(matched.sum())
    differences.boxes = max(differences.boxes, float(box_difference.gather(1, closest)[matched].max()))
    differences.scores = max(differences.scores, float(score_difference.gather(1, closest)[matched].max()))
    if "crops" in expected:
        mask_difference = (expected["crops"][matched] - actual["crops"][closest[matched, 0]]).abs()
        differences.masks = max(differences.masks or 0.0, float(mask_difference.max()))


def smooth_test_images(seed: int = 0) -> list[Tensor]:
    """Return random images of smooth colors, in which detectors predict more objects than in noise.

    Args:
        seed: of the random numbers.

    Returns:
        An image (3, H, W), uint8, for each size of ``TEST_IMAGE_SIZES``.
    """
    generator = torch.Generator().manual_seed(seed)
    images = []
    for size in TEST_IMAGE_SIZES:
        coarse = torch.rand(1, 3, 6, 6, generator=generator) * 255
        images.append(torch.nn.functional.interpolate(coarse, size=size, mode="bicubic")[0].clamp(0, 255).byte())
    return images
