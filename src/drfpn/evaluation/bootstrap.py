"""Bootstrap over images: the distribution of AP and its confidence interval."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from drfpn.evaluation.matching import ClassMatches, interpolated_precision, mean_average_precision
from drfpn.utils.console import bar


def bootstrap_ap(matches: Sequence[ClassMatches], *, resamples: int = 200, seed: int = 0) -> NDArray[np.float64]:
    """Compute AP on bootstrap resamples of the images, which are drawn with replacement.

    The resamples depend on ``seed`` and the number of images alone, so those of two detectors on the same images are
    paired.

    Args:
        matches: matched detections of each class.
        resamples: number of resamples.
        seed: seed of the resamples.

    Returns:
        (resamples,), AP as a fraction; NaN for a resample without objects.
    """
    images = len(matches[0].num_gt)
    rng = np.random.default_rng(seed)
    values = np.full(resamples, np.nan)
    with bar("bootstrap", resamples) as progress:
        for i in range(resamples):
            weights = np.bincount(rng.integers(0, images, images), minlength=images).astype(np.float64)
            value = mean_average_precision([interpolated_precision(of_class, weights) for of_class in matches])
            if value >= 0:
                values[i] = value
            progress.advance()
    return values


def bootstrap_interval(
    matches: Sequence[ClassMatches], *, resamples: int = 200, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Compute the percentile bootstrap interval of AP over images.

    An image that is drawn twice raises AP a little, as its objects are detected twice or not at all; the percentiles
    are shifted by AP minus the mean of the resamples.

    Args:
        matches: matched detections of each class.
        resamples: number of resamples.
        level: fraction of the resamples inside the interval.
        seed: seed of the resamples.

    Returns:
        Lower and upper limit, fractions; -1 and -1 if there are no objects.
    """
    drawn = bootstrap_ap(matches, resamples=resamples, seed=seed)
    values = drawn[~np.isnan(drawn)]
    if not len(values):
        return -1.0, -1.0
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    shift = mean_average_precision([interpolated_precision(of_class) for of_class in matches]) - float(np.mean(values))
    return max(float(low) + shift, 0.0), min(float(high) + shift, 1.0)
