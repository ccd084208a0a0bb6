"""Figures and diagnostics of a neck for the report of a run: output levels, offsets, omega and gates."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel
from torch import nn

from drfpn.data import DetectionDataset
from drfpn.detectors.base import CanDetect
from drfpn.utils.errors import UserError
from drfpn.visualization.diagnostics import Diagnosis, diagnose_gates, diagnose_offsets, diagnose_omegas
from drfpn.visualization.feature_maps import draw_gates, draw_offsets, draw_output_levels
from drfpn.visualization.hooks import capture_neck_tensors


class NeckFigures(BaseModel):
    """Images that the figures of a neck show, and the diagnoses of its blocks."""

    image: str
    """Name of the image whose output levels and offsets are drawn."""
    images: int
    """Number of images whose gates are drawn."""
    offsets: list[Diagnosis] = []
    weights: list[Diagnosis] = []
    """Diagnoses of omega."""
    gates: list[Diagnosis] = []


def draw_neck_figures(
    model: nn.Module | CanDetect, dataset: DetectionDataset, indices: Sequence[int], folder: Path
) -> NeckFigures | None:
    """Draw the output levels and offsets for the first image and the gates for all, as far as the neck has them.

    Args:
        model: a detector.
        dataset: images.
        indices: indices of the images to use.
        folder: folder of ``levels.png``, ``offsets.png`` and ``gates.png``, created if missing.

    Returns:
        The diagnoses; ``None`` if the model has no neck of this library.
    """
    image = dataset.image(indices[0])
    try:
        first = capture_neck_tensors(model, image)
    except UserError:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    draw_output_levels({"": first}, folder / "levels.png", mean=True)
    figures = NeckFigures(image=Path(dataset.name(indices[0])).name, images=len(indices))
    if first.offsets or first.omegas:
        draw_offsets(first, image, folder / "offsets.png")
        figures.offsets, figures.weights = diagnose_offsets(first), diagnose_omegas(first)
    if first.gates:
        images = [first, *(capture_neck_tensors(model, dataset.image(i)) for i in indices[1:])]
        draw_gates(images, folder / "gates.png")
        figures.gates = diagnose_gates(images)
    return figures
