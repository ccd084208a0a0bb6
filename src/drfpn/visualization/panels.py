"""Pictures of a pyramid at work, for the report of a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from drfpn.data import DetectionDataset
from drfpn.utils.errors import UserError
from drfpn.visualization.diagnostics import Verdict, judge_gates, judge_offsets, judge_weights
from drfpn.visualization.feature_maps import draw_gates, draw_levels, draw_offsets
from drfpn.visualization.hooks import inspect_pyramid


class Panels(BaseModel):
    """Which pictures there are of a pyramid, and what they come to."""

    image: str
    """Name of the image whose levels and offsets are drawn."""
    images: int
    """Of so many are the gates."""
    offsets: list[Verdict] = []
    weights: list[Verdict] = []
    gates: list[Verdict] = []


def draw_panels(model: Any, dataset: DetectionDataset, indices: Sequence[int], folder: Path) -> Panels | None:
    """Draw the levels and offsets of the first image and the gates of all, where the pyramid has such blocks.

    Args:
        model: a detector; ``None`` is returned where its pyramid cannot be looked into.
        dataset: images.
        indices: which of them.
        folder: takes ``levels.png``, ``offsets.png`` and ``gates.png``.
    """
    image = dataset.image(indices[0])
    try:
        first = inspect_pyramid(model, image)
    except UserError:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    draw_levels({"": first}, folder / "levels.png", mean=True)
    panels = Panels(image=Path(dataset.name(indices[0])).name, images=len(indices))
    if first.offsets or first.weights:
        draw_offsets(first, image, folder / "offsets.png")
        panels.offsets, panels.weights = judge_offsets(first), judge_weights(first)
    if first.gates:
        found = [first, *(inspect_pyramid(model, dataset.image(i)) for i in indices[1:])]
        draw_gates(found, folder / "gates.png")
        panels.gates = judge_gates(found)
    return panels
