"""Confidence threshold of each class with the best F1."""

import numpy as np
from pydantic import BaseModel

from drfpn.evaluation.matching import ClassMatches


class ScoreThreshold(BaseModel):
    """Confidence threshold of a class with the best F1 at IoU 0.5, and what it gives; fractions."""

    score: float
    f1: float
    precision: float
    recall: float


def best_f1_threshold(matches: ClassMatches) -> ScoreThreshold | None:
    """Find the confidence threshold of a class with the best F1 at IoU 0.5.

    Args:
        matches: matched detections of the class.

    Returns:
        The threshold; ``None`` if the class has no object or no true positive.
    """
    is_true_positive, counted = matches.true_positive[0], ~matches.ignored[0]
    num_gt = int(matches.num_gt.sum())
    true_positives, detections = np.cumsum(is_true_positive), np.cumsum(counted)
    if num_gt == 0 or not is_true_positive.any():
        return None
    f1 = 2 * true_positives / (num_gt + detections)
    # Equal scores pass a threshold together.
    f1[:-1][matches.scores[:-1] == matches.scores[1:]] = -1
    best = int(f1.argmax())
    return ScoreThreshold(
        score=float(matches.scores[best]),
        f1=float(f1[best]),
        precision=float(true_positives[best] / detections[best]),
        recall=float(true_positives[best] / num_gt),
    )
