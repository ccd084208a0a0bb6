"""How far AP would move with other images of the same kind."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from drfpn.evaluation.matching import ClassMatches, mean_precision, precisions
from drfpn.utils.console import bar


def resampled_ap(matches: Sequence[ClassMatches], *, resamples: int = 200, seed: int = 0) -> NDArray[np.float64]:
    """Return AP (resamples,) over images drawn with replacement; NaN where a draw has no object.

    The draws depend on ``seed`` and the number of images alone: those of two detectors on the same images are paired.

    Args:
        matches: Of every class.
        resamples: Draws.
        seed: Of the draws.
    """
    images = len(matches[0].objects)
    rng = np.random.default_rng(seed)
    values = np.full(resamples, np.nan)
    with bar("bootstrap", resamples) as progress:
        for i in range(resamples):
            weights = np.bincount(rng.integers(0, images, images), minlength=images).astype(np.float64)
            value = mean_precision([precisions(of_class, weights) for of_class in matches])
            if value >= 0:
                values[i] = value
            progress.advance()
    return values


def interval(
    matches: Sequence[ClassMatches], *, resamples: int = 200, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile interval of AP over images drawn with replacement.

    Drawing an image twice raises AP a little, as its objects are found twice or not at all; the percentiles are moved
    by the difference of their mean from AP.

    Args:
        matches: Of every class.
        resamples: Draws.
        level: Share of the draws inside the interval.
        seed: Same seed, same interval.
    """
    drawn = resampled_ap(matches, resamples=resamples, seed=seed)
    values = drawn[~np.isnan(drawn)]
    if not len(values):
        return -1.0, -1.0
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    moved = mean_precision([precisions(of_class) for of_class in matches]) - float(np.mean(values))
    return max(float(low) + moved, 0.0), min(float(high) + moved, 1.0)
