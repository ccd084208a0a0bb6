"""The score from which to believe a detection."""

import numpy as np
from pydantic import BaseModel

from drfpn.evaluation.matching import ClassMatches


class Threshold(BaseModel):
    """The score threshold of a class with the best F1 at IoU 0.5, and what it gives; fractions."""

    score: float
    f1: float
    precision: float
    recall: float


def best_threshold(matches: ClassMatches) -> Threshold | None:
    """Return the best threshold; ``None`` where the class has no object or none is found."""
    found, counted = matches.found[0], ~matches.ignored[0]
    total = int(matches.objects.sum())
    right, kept = np.cumsum(found), np.cumsum(counted)
    if total == 0 or not found.any():
        return None
    f1 = 2 * right / (total + kept)
    # Equal scores pass a threshold together.
    f1[:-1][matches.scores[:-1] == matches.scores[1:]] = -1
    best = int(f1.argmax())
    return Threshold(
        score=float(matches.scores[best]),
        f1=float(f1[best]),
        precision=float(right[best] / kept[best]),
        recall=float(right[best] / total),
    )
