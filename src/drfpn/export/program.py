"""A detector as one graph, from an image of any size to its detections."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from drfpn.detectors.postprocess import PaddedInference

LARGEST = 8192
"""Longest side of an image that an exported graph takes, pixels."""


class WholeDetector(nn.Module):
    """An image in, detections out, all of it in tensors.

    Args:
        model: a detector of this library.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Turn an image (3, H, W), bytes, into its detections.

        Returns:
            "boxes" (D, 4) in pixels of the image, "scores" (D,), "labels" (D,), and where the detector has them
            "masks" (D, M, M), probabilities inside of each box. Entries of score -1 only fill up.
        """
        model: Any = self.model
        found = model.detect_batch([image])
        return {name: value[0] for name, value in found._asdict().items() if value is not None}


def export_program(model: nn.Module, example: Tensor | None = None) -> ExportedProgram:
    """Trace a whole detector with dynamic height and width.

    Args:
        model: a detector of this library, on the device that the graph is for; put into evaluation mode.
        example: an image (3, H, W), bytes, of neither the least nor the largest size; noise by default.

    Returns:
        A program whose ``module()`` is called as ``WholeDetector`` is, with images of 32 px to ``LARGEST`` px.
    """
    assert isinstance(model, PaddedInference)
    if example is None:
        device = next(model.parameters()).device
        example = torch.randint(0, 256, (3, 211, 300), dtype=torch.uint8, device=device)
    size = {1: Dim("height", min=32, max=LARGEST), 2: Dim("width", min=32, max=LARGEST)}
    with torch.no_grad():
        return torch.export.export(WholeDetector(model.eval()), (example,), dynamic_shapes=(size,), strict=False)
