"""Conversion of a detector to one graph (``torch.export``) for images of any size."""

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from drfpn.detectors.base import DetectionModel

MIN_IMAGE_SIDE = 32
"""Shortest side of an image that an exported graph takes, in pixels."""
MAX_IMAGE_SIDE = 8192
"""Longest side of an image that an exported graph takes, in pixels."""


class EndToEndDetector(nn.Module):
    """A detector with preprocessing and postprocessing, from one image to its detections.

    Args:
        model: detector of this library.
    """

    def __init__(self, model: DetectionModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Detect objects in one image.

        Args:
            image: (3, H, W), RGB, uint8.

        Returns:
            "boxes" (D, 4) in pixels of the image, "scores" (D,), "labels" (D,), 1..K, and of detectors with masks
            "masks" (D, M, M), probabilities inside of each box. Entries with score -1 are padding.
        """
        detections = self.model.detect_padded([image])
        return {name: value[0] for name, value in detections._asdict().items() if value is not None}


def export_program(model: DetectionModel, example: Tensor | None = None) -> ExportedProgram:
    """Trace a whole detector with dynamic height and width.

    Args:
        model: detector of this library, on the device that the graph is for; it is set to evaluation mode.
        example: image (3, H, W), uint8, to trace with; its sides must be longer than ``MIN_IMAGE_SIDE`` and shorter
            than ``MAX_IMAGE_SIDE`` pixels. Default: noise.

    Returns:
        A program whose ``module()`` is called as :class:`EndToEndDetector` is, with images whose sides are from
        ``MIN_IMAGE_SIDE`` to ``MAX_IMAGE_SIDE`` pixels.
    """
    if example is None:
        device = next(model.parameters()).device
        example = torch.randint(0, 256, (3, 211, 300), dtype=torch.uint8, device=device)
    limits = {"min": MIN_IMAGE_SIDE, "max": MAX_IMAGE_SIDE}
    dynamic_size = {1: Dim("height", **limits), 2: Dim("width", **limits)}
    with torch.no_grad():
        return torch.export.export(
            EndToEndDetector(model.eval()), (example,), dynamic_shapes=(dynamic_size,), strict=False
        )
