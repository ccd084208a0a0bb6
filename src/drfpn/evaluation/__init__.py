"""Evaluation: COCO's metrics, matching, confusion, bootstrap intervals, counts."""

from drfpn.evaluation.analysis import Analysis, analyze
from drfpn.evaluation.coco import Metrics, detect, score
from drfpn.evaluation.flops import Counts, count

__all__ = [
    "Analysis",
    "Counts",
    "Metrics",
    "analyze",
    "count",
    "detect",
    "score",
]
