"""Does a block do anything: what its offsets, weights and gates come to, in numbers and in words."""

from collections.abc import Sequence

import torch
from pydantic import BaseModel

from drfpn.visualization.hooks import Inspection

DEAD_PIXELS = 0.01
"""Offsets that are all smaller move nothing that could be seen."""
DEAD_WEIGHT = 0.01
"""Weights that are all smaller add nothing that could be seen."""
DEAD_GATE = 0.01
"""Gates that differ by less leave all channels alike."""


class Verdict(BaseModel):
    """Of one kind of numbers between two neighbouring levels."""

    pair: str
    """Such as ``C2-C3``."""
    mean: float
    """Of the sizes of offsets in pixels, of weights, or of gates."""
    spread: float
    """Standard deviation over pixels or channels."""
    largest: float
    """Size of the largest, without its sign."""
    works: bool
    words: str


def judge_offsets(found: Inspection) -> list[Verdict]:
    """Tell for each pair whether SRB's offsets move anything; pixels of the map that is added to."""
    verdicts = []
    for i, offset in sorted(found.offsets.items()):
        moved = offset.norm(dim=0)
        works = bool(moved.max() >= DEAD_PIXELS)
        words = f"samples are moved by {moved.mean():.2f} pixels in the mean, {moved.max():.2f} at most"
        if not works:
            words = f"dead: no sample is moved by {DEAD_PIXELS} pixels"
        verdicts.append(_verdict(found, i, moved, works, words))
    return verdicts


def judge_weights(found: Inspection) -> list[Verdict]:
    """Tell for each pair whether SRB's weight omega adds or takes anything."""
    verdicts = []
    for i, weight in sorted(found.weights.items()):
        works = bool(weight.abs().max() >= DEAD_WEIGHT)
        words = f"what is sampled counts {weight.mean():+.2f} in the mean, {weight.min():+.2f} to {weight.max():+.2f}"
        if not works:
            words = f"dead: omega is below {DEAD_WEIGHT} everywhere, so what is sampled does not count"
        verdicts.append(_verdict(found, i, weight, works, words))
    return verdicts


def judge_gates(found: Sequence[Inspection]) -> list[Verdict]:
    """Tell for each pair whether CRB's gates treat channels differently, in the mean over some images."""
    verdicts = []
    for i in sorted(found[0].gates):
        gates = torch.stack([one.gates[i] for one in found])  # (images, C)
        mean = gates.mean(0)
        works = bool(mean.max() - mean.min() >= DEAD_GATE)
        words = f"gates from {mean.min():.2f} to {mean.max():.2f}, {mean.std():.2f} apart over channels"
        if len(found) > 1:
            words += f" and {gates.std(0).mean():.2f} over {len(found)} images"
        if not works:
            words = f"dead: all gates are {mean.mean():.2f}"
        verdicts.append(_verdict(found[0], i, mean, works, words))
    return verdicts


def pair_name(found: Inspection, i: int) -> str:
    """Return the name of the pair whose finer level has index ``i``."""
    return f"{found.levels[i]}-{found.levels[i + 1]}"


def _verdict(found: Inspection, i: int, values: torch.Tensor, works: bool, words: str) -> Verdict:
    return Verdict(
        pair=pair_name(found, i),
        mean=float(values.mean()),
        spread=float(values.std()),
        largest=float(values.abs().max()),
        works=works,
        words=words,
    )
