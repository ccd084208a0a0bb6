"""The analysis of an evaluation in a folder: numbers in ``metrics.json``, figures in ``analysis/``."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from drfpn.evaluation import analyze
from drfpn.utils.io import write_json
from drfpn.visualization.evaluation import save_evaluation_figures


def write_analysis(
    ground_truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    folder: Path,
    *,
    masks: bool | None = None,
    resamples: int = 200,
) -> None:
    """Add an analysis of the detections to ``metrics.json`` of a folder, and draw it into ``analysis/``.

    Args:
        ground_truth: COCO dict.
        results: COCO results.
        folder: folder with ``metrics.json``.
        masks: whether masks are analyzed; ``None`` if the results have them.
        resamples: bootstrap resamples of the images for the confidence interval.
    """
    analysis = analyze(ground_truth, results, masks=masks, resamples=resamples)
    file = folder / "metrics.json"
    metrics = json.loads(file.read_text(encoding="utf-8"))
    write_json(file, metrics | {"analysis": analysis.model_dump()})
    save_evaluation_figures(analysis, folder / "analysis")
