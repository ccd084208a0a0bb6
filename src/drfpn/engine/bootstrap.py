"""How far AP would move with other images of the same kind."""

from collections.abc import Sequence

import numpy as np

from drfpn.engine.matches import ClassMatches, mean_precision, precisions
from drfpn.engine.progress import bar


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
    images = len(matches[0].objects)
    rng = np.random.default_rng(seed)
    values = []
    with bar("bootstrap", resamples) as progress:
        for _ in range(resamples):
            weights = np.bincount(rng.integers(0, images, images), minlength=images).astype(np.float64)
            value = mean_precision([precisions(of_class, weights) for of_class in matches])
            if value >= 0:
                values.append(value)
            progress.advance()
    if not values:
        return -1.0, -1.0
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    moved = mean_precision([precisions(of_class) for of_class in matches]) - float(np.mean(values))
    return max(float(low) + moved, 0.0), min(float(high) + moved, 1.0)
