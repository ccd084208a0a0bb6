"""How far an exported detector is from the one that it was made of."""

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor

from drfpn.utils.console import bar

SIZES = ((97, 131), (131, 98), (75, 333), (480, 271))
"""Height and width of the images compared, none of them the one traced."""
_CLOSE = 1.0
"""Boxes of one class that are no farther apart are the same detection, pixels."""


class Parity(BaseModel):
    """Greatest differences over all detections that both have."""

    images: int
    detections: int
    """Of the detector itself."""
    matched: int
    """Of those, how many the exported one has: same class, within a pixel."""
    boxes: float
    """Greatest difference of a coordinate, pixels."""
    scores: float
    masks: float | None = None
    """Greatest difference of a pixel's probability."""


def measure_parity(model: Any, exported: Any, images: Sequence[Tensor]) -> Parity:
    """Compare what two detectors find in images (3, H, W), bytes."""
    result = Parity(images=len(images), detections=0, matched=0, boxes=0, scores=0)
    with bar("comparing", len(images)) as progress, torch.inference_mode():
        for image in images:
            (ours,), (theirs,) = model.detect([image]), exported.detect([image])
            result.detections += len(ours["scores"])
            _add(result, ours, theirs)
            progress.advance()
    return result


def _add(result: Parity, ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    if not len(ours["scores"]) or not len(theirs["scores"]):
        return
    apart = (ours["boxes"][:, None] - theirs["boxes"]).abs().amax(-1)
    scores = (ours["scores"][:, None] - theirs["scores"]).abs()
    other_class = ours["labels"][:, None] != theirs["labels"]
    index = (apart + scores).masked_fill(other_class, torch.inf).argmin(dim=1, keepdim=True)
    here = ~other_class.gather(1, index)[:, 0] & (apart.gather(1, index)[:, 0] <= _CLOSE)
    if not here.any():
        return
    result.matched += int(here.sum())
    result.boxes = max(result.boxes, float(apart.gather(1, index)[here].max()))
    result.scores = max(result.scores, float(scores.gather(1, index)[here].max()))
    if "crops" in ours:
        masks = (ours["crops"][here] - theirs["crops"][index[here, 0]]).abs()
        result.masks = max(result.masks or 0.0, float(masks.max()))


def blotches(seed: int = 0) -> list[Tensor]:
    """Return images of ``SIZES``: smooth blotches, in which a detector finds more than in plain noise."""
    generator = torch.Generator().manual_seed(seed)
    images = []
    for size in SIZES:
        coarse = torch.rand(1, 3, 6, 6, generator=generator) * 255
        images.append(torch.nn.functional.interpolate(coarse, size=size, mode="bicubic")[0].clamp(0, 255).byte())
    return images
