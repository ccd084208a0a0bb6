"""Labels of one-stage detectors, which torchvision counts from 0."""

from typing import Any

from torch import Tensor


class LabelsFromOne:
    """Mixin before a torchvision detector whose training takes label k for class k: labels 1..K become 0..K-1.

    Two-stage detectors keep 0 for the background; one-stage detectors have none, and a data set's class would move
    by one with the detector.
    """

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        """Return losses in training, detections else, as the detector does."""
        if targets is not None:
            targets = [{**target, "labels": target["labels"] - 1} for target in targets]
        return super().forward(images, targets)  # type: ignore[misc]
