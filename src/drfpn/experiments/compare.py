"""Is a pyramid better: mean and spread over seeds, and the paired difference with its interval."""

from collections.abc import Mapping, Sequence

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
    """Runs that were compared, on each side. With one, the interval covers other images, not other seeds."""
    level: float

    @property
    def clear(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


def spread(runs: Mapping[int, Record], name: str) -> Spread:
    """Return mean and standard deviation over seeds of one of COCO's numbers; -1 where there is nothing to measure."""
    return _spread([run.metrics[name] for run in runs.values()])


def spread_curve(runs: Mapping[int, Record]) -> dict[int, Spread]:
    """Return the same of AP after each epoch at which every run measured it."""
    curves = [dict(run.curve) for run in runs.values()]
    shared = sorted(set.intersection(*(set(curve) for curve in curves))) if curves else []
    return {epoch: _spread([curve[epoch] for curve in curves]) for epoch in shared}


def _spread(fractions: Sequence[float]) -> Spread:
    values = np.array(fractions)
    if (values < 0).any():
        return Spread(mean=-1, sd=None)
    return Spread(mean=100 * float(values.mean()), sd=100 * float(values.std(ddof=1)) if len(values) > 1 else None)


def difference(
    runs: Mapping[int, Record], baseline: Mapping[int, Record], *, level: float = 0.95, seed: int = 0
) -> Difference | None:
    """Compare runs with the baseline's runs of the same seeds on the same images.

    Args:
        runs: by seed.
        baseline: by seed.
        level: share of the draws inside the interval.
        seed: of the draws.

    Returns:
        ``None`` where the two have no seed in common.
    """
    return mean_difference([(runs, baseline)], level=level, seed=seed)


def mean_difference(
    pairs: Sequence[tuple[Mapping[int, Record], Mapping[int, Record]]], *, level: float = 0.95, seed: int = 0
) -> Difference | None:
    """Compare several kinds of runs, each with its baseline, and average: what is common to their differences.

    Images are resampled with replacement, the same draws for both sides (``Record.resampled``). Three to ten
    differences are too few to resample: their part is drawn from Student's t with the spread of the paired
    differences. The interval is the percentiles of both together, around the difference that was measured.

    Args:
        pairs: (runs, baseline), each by seed; no run may be in two of them, since differences count as independent.
        level: share of the draws inside the interval.
        seed: of the draws.

    Returns:
        ``None`` where no pair has a seed in common.
    """
    both = [(runs[s], baseline[s]) for runs, baseline in pairs for s in sorted(set(runs) & set(baseline))]
    if not both:
        return None
    measured = np.array([ours.metrics["AP"] - base.metrics["AP"] for ours, base in both])
    drawn = np.mean([np.subtract(ours.resampled, base.resampled) for ours, base in both], axis=0)
    moves = np.repeat(drawn - drawn.mean(), DRAWS)
    if len(both) > 1:
        error = measured.std(ddof=1) / np.sqrt(len(both))
        moves = moves + error * np.random.default_rng(seed).standard_t(len(both) - 1, len(moves))
    low, high = 100 * (measured.mean() + np.quantile(moves, [(1 - level) / 2, (1 + level) / 2]))
    return Difference(mean=100 * float(measured.mean()), low=low, high=high, seeds=len(both), level=level)
