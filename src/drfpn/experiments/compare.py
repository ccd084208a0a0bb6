"""Is a pyramid better: mean and spread over seeds, and the paired difference with its interval."""

from collections.abc import Mapping

import numpy as np
from pydantic import BaseModel

from drfpn.experiments.store import Record

DRAWS = 20
"""Of the seeds' part for each resample of the images."""


class Spread(BaseModel):
    """Over seeds, in %."""

    mean: float
    sd: float | None
    """``None`` for a single seed."""


class Difference(BaseModel):
    """Of AP to the baseline with the same seeds, in %."""

    mean: float
    low: float
    high: float
    seeds: int
    """That both have. With one, the interval covers other images, not other seeds."""
    level: float

    @property
    def clear(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


def spread(runs: Mapping[int, Record], name: str) -> Spread:
    """Return mean and standard deviation over seeds of one of COCO's numbers; -1 where there is nothing to measure."""
    values = np.array([run.metrics[name] for run in runs.values()])
    if (values < 0).any():
        return Spread(mean=-1, sd=None)
    return Spread(mean=100 * float(values.mean()), sd=100 * float(values.std(ddof=1)) if len(values) > 1 else None)


def difference(
    runs: Mapping[int, Record], baseline: Mapping[int, Record], *, level: float = 0.95, seed: int = 0
) -> Difference | None:
    """Compare runs with the baseline's runs of the same seeds on the same images.

    Images are resampled with replacement, the same draws for both sides (``Record.resampled``). Three to five seeds
    are too few to resample: their part is drawn from Student's t with the spread of the paired differences. The
    interval is the percentiles of both together, around the difference that was measured.

    Args:
        runs: by seed.
        baseline: by seed.
        level: share of the draws inside the interval.
        seed: of the draws.

    Returns:
        ``None`` where the two have no seed in common.
    """
    seeds = sorted(set(runs) & set(baseline))
    if not seeds:
        return None
    measured = np.array([runs[s].metrics["AP"] - baseline[s].metrics["AP"] for s in seeds])
    drawn = np.mean([np.subtract(runs[s].resampled, baseline[s].resampled) for s in seeds], axis=0)
    moves = np.repeat(drawn - drawn.mean(), DRAWS)
    if len(seeds) > 1:
        error = measured.std(ddof=1) / np.sqrt(len(seeds))
        moves = moves + error * np.random.default_rng(seed).standard_t(len(seeds) - 1, len(moves))
    low, high = 100 * (measured.mean() + np.quantile(moves, [(1 - level) / 2, (1 + level) / 2]))
    return Difference(mean=100 * float(measured.mean()), low=low, high=high, seeds=len(seeds), level=level)
