"""Is a pyramid better: mean and spread over seeds, and the paired difference with its interval."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel

from drfpn.ablations.store import Record

DRAWS = 20
"""Of the seeds' part for each resample of the images."""


WILD = 20
"""Times the median variance of a table's rows: chance does that to three seeds once in a million rows."""


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
    """Runs that were compared, on each side."""
    over_seeds: bool
    """Whether the interval covers other seeds too, or other images alone: one run does not tell how seeds differ."""
    level: float

    @property
    def clear(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


class SeedNoise(NamedTuple):
    """How the difference of two runs varies with their seed."""

    variance: float
    """Of a paired difference, in fractions of AP, squared."""
    freedom: float
    """Degrees of freedom that it was estimated with."""


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


def seed_noise(rows: Sequence[Mapping[int, Record]], baseline: Mapping[int, Record]) -> list[SeedNoise | None]:
    """Pool over the rows of a table how their differences to the baseline vary with the seed.

    The true spread of a row may be anything from half to six times what three seeds show; the rows of a table, which
    differ in a pyramid alone, vary much alike. All their differences share the baseline's runs, so that any two are
    correlated by 1/2: as many degrees of freedom are left as independent estimates of that precision would have. A row
    whose variance is ``WILD`` times the median, such as one with a run that fell over, stays out of the pool.

    Args:
        rows: runs of each row but the baseline, by seed.
        baseline: by seed.

    Returns:
        For each row the noise that its difference has; ``None`` where its own spread must tell.
    """
    gaps = [_gaps(_paired(runs, baseline)) for runs in rows]
    variances = [float(gap.var(ddof=1)) if len(gap) > 1 else None for gap in gaps]
    known = [variance for variance in variances if variance is not None]
    if not known:
        return [None] * len(rows)
    most = WILD * float(np.median(known))
    pool = [(len(gap) - 1, v) for gap, v in zip(gaps, variances, strict=True) if v is not None and v <= most]
    freedom = sum(own for own, _ in pool)
    noise = SeedNoise(sum(own * v for own, v in pool) / freedom, freedom / (1 + (len(pool) - 1) / 4))
    return [noise if variance is None or variance <= most else None for variance in variances]


def difference(
    runs: Mapping[int, Record],
    baseline: Mapping[int, Record],
    *,
    noise: SeedNoise | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> Difference | None:
    """Compare runs with the baseline's runs of the same seeds on the same images.

    Args:
        runs: by seed.
        baseline: by seed.
        noise: of a seed; ``None`` for that of these runs.
        level: share of the draws inside the interval.
        seed: of the draws.

    Returns:
        ``None`` where the two have no seed in common.
    """
    return mean_difference([(runs, baseline)], noise=noise, level=level, seed=seed)


def mean_difference(
    pairs: Sequence[tuple[Mapping[int, Record], Mapping[int, Record]]],
    *,
    noise: SeedNoise | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> Difference | None:
    """Compare several kinds of runs, each with its baseline, and average: what is common to their differences.

    Images are resampled with replacement, the same draws for both sides (``Record.resampled``). Three to ten
    differences are too few to resample: their part is drawn from Student's t. The interval is the percentiles of both
    together, around the difference that was measured.

    Args:
        pairs: (runs, baseline), each by seed; no run may be in two of them, since differences count as independent.
        noise: of a seed; ``None`` for the spread of the differences compared.
        level: share of the draws inside the interval.
        seed: of the draws.

    Returns:
        ``None`` where no pair has a seed in common.
    """
    both = [pair for runs, baseline in pairs for pair in _paired(runs, baseline)]
    if not both:
        return None
    measured = _gaps(both)
    drawn = np.mean([np.subtract(ours.resampled, base.resampled) for ours, base in both], axis=0)
    moves = np.repeat(drawn - drawn.mean(), DRAWS)
    if noise is None and len(both) > 1:
        noise = SeedNoise(float(measured.var(ddof=1)), len(both) - 1)
    if noise is not None:
        error = np.sqrt(noise.variance / len(both))
        moves = moves + error * np.random.default_rng(seed).standard_t(noise.freedom, len(moves))
    low, high = 100 * (measured.mean() + np.quantile(moves, [(1 - level) / 2, (1 + level) / 2]))
    return Difference(
        mean=100 * float(measured.mean()),
        low=low,
        high=high,
        seeds=len(both),
        over_seeds=noise is not None,
        level=level,
    )


def _paired(runs: Mapping[int, Record], baseline: Mapping[int, Record]) -> list[tuple[Record, Record]]:
    return [(runs[seed], baseline[seed]) for seed in sorted(set(runs) & set(baseline))]


def _gaps(pairs: Sequence[tuple[Record, Record]]) -> np.ndarray:
    return np.array([ours.metrics["AP"] - base.metrics["AP"] for ours, base in pairs])
