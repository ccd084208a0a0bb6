"""COCO evaluation: AP and AR, error analysis, bootstrap intervals, parameters and multiply-adds.

Public:

- :func:`detect` runs a detector over a data set, :func:`evaluate_results` computes COCO's :class:`Metrics`.
- :func:`analyze` returns an :class:`Analysis`: precision-recall curves, confusion matrix, error types, interval of AP.
- :func:`model_complexity` counts the parameters and multiply-adds of a detector as :class:`ModelComplexity`.
"""

from drfpn.evaluation.analysis import Analysis, analyze
from drfpn.evaluation.coco import detect, evaluate_results
from drfpn.evaluation.flops import ModelComplexity, model_complexity
from drfpn.evaluation.metrics import COCO_METRICS, Metrics

__all__ = [
    "COCO_METRICS",
    "Analysis",
    "Metrics",
    "ModelComplexity",
    "analyze",
    "detect",
    "evaluate_results",
    "model_complexity",
]
