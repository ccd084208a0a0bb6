"""Diagnostics of SRB and CRB: statistics of offsets, omega and gates, and whether a block has any effect."""

from collections.abc import Sequence

import torch
from pydantic import BaseModel
from torch import Tensor

from drfpn.visualization.hooks import NeckTensors

DEAD_OFFSET = 0.01
"""Offsets that are all smaller, in pixels, have no visible effect."""
DEAD_OMEGA = 0.01
"""Values of omega that are all smaller have no visible effect."""
DEAD_GATE = 0.01
"""Gates that differ by less treat all channels alike."""


class Diagnosis(BaseModel):
    """Statistics of the offsets, omega or gates of the step between two neighboring levels."""

    pair: str
    """The two levels, such as ``C2-C3``."""
    mean: float
    """Mean length of the offsets in pixels, mean of omega, or mean of the gates."""
    spread: float
    """Standard deviation over pixels or channels."""
    largest: float
    """Largest absolute value."""
    works: bool
    """Whether the block has a visible effect."""
    words: str
    """The same as a sentence."""


def diagnose_offsets(tensors: NeckTensors) -> list[Diagnosis]:
    """Diagnose SRB's offsets for each pair of levels, in pixels of the finer map."""
    diagnoses = []
    for i, offset in sorted(tensors.offsets.items()):
        length = offset.norm(dim=0)
        works = bool(length.max() >= DEAD_OFFSET)
        words = f"mean offset {length.mean():.2f} pixels, maximum {length.max():.2f}"
        if not works:
            words = f"dead: all offsets are below {DEAD_OFFSET} pixels"
        diagnoses.append(_diagnosis(tensors, i, length, works, words))
    return diagnoses


def diagnose_omegas(tensors: NeckTensors) -> list[Diagnosis]:
    """Diagnose SRB's omega for each pair of levels."""
    diagnoses = []
    for i, omega in sorted(tensors.omegas.items()):
        works = bool(omega.abs().max() >= DEAD_OMEGA)
        words = f"mean omega {omega.mean():+.2f}, range {omega.min():+.2f} to {omega.max():+.2f}"
        if not works:
            words = f"dead: omega is below {DEAD_OMEGA} everywhere, so the sampled values have no effect"
        diagnoses.append(_diagnosis(tensors, i, omega, works, words))
    return diagnoses


def diagnose_gates(images: Sequence[NeckTensors]) -> list[Diagnosis]:
    """Diagnose CRB's gates for each pair of levels, in the mean over images.

    Args:
        images: tensors of each image.
    """
    diagnoses = []
    for i in sorted(images[0].gates):
        gates = torch.stack([tensors.gates[i] for tensors in images])  # (images, C)
        mean = gates.mean(0)
        works = bool(mean.max() - mean.min() >= DEAD_GATE)
        words = f"gates from {mean.min():.2f} to {mean.max():.2f}, standard deviation {mean.std():.2f} over channels"
        if len(images) > 1:
            words += f" and {gates.std(0).mean():.2f} over {len(images)} images"
        if not works:
            words = f"dead: all gates are {mean.mean():.2f}"
        diagnoses.append(_diagnosis(images[0], i, mean, works, words))
    return diagnoses


def pair_name(tensors: NeckTensors, i: int) -> str:
    """Return the name of the pair of levels whose finer one has index ``i``, such as ``C2-C3``."""
    return f"{tensors.levels[i]}-{tensors.levels[i + 1]}"


def _diagnosis(tensors: NeckTensors, i: int, values: Tensor, works: bool, words: str) -> Diagnosis:
    return Diagnosis(
        pair=pair_name(tensors, i),
        mean=float(values.mean()),
        spread=float(values.std()),
        largest=float(values.abs().max()),
        works=works,
        words=words,
    )
