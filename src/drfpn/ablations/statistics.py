"""Mean and standard deviation of AP over seeds, and paired differences with confidence intervals."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel

from drfpn.ablations.store import Record

SEED_DRAWS = 20
"""Draws of the error over seeds for each resample of the images."""

OUTLIER_FACTOR = 20
"""Multiple of the median variance of a table's rows; three seeds exceed it by chance once in a million rows."""


class MeanStd(BaseModel):
    """Mean and standard deviation over seeds, in %."""

    mean: float
    sd: float | None
    """``None`` for a single seed."""


class PairedDifference(BaseModel):
    """Mean difference of AP to a baseline, over runs of the same seeds, with its confidence interval, in %."""

    mean: float
    low: float
    high: float
    seeds: int
    """Number of pairs of runs."""
    over_seeds: bool
    """Whether the interval covers the variance over seeds; a single run only allows the variance over images."""
    level: float
    """Confidence level of the interval."""

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


class SeedVariance(NamedTuple):
    """Variance over seeds of the difference between two runs."""

    variance: float
    """In squared fractions of AP."""
    degrees_of_freedom: float
    """Of the estimate."""


def mean_std(runs: Mapping[int, Record], metric: str) -> MeanStd:
    """Return mean and standard deviation over seeds of a COCO metric.

    Args:
        runs: runs by seed.
        metric: name, such as ``"AP50"``.

    Returns:
        A mean of -1 where the data has no objects to measure it on.
    """
    return _mean_std([run.metrics[metric] for run in runs.values()])


def mean_std_curve(runs: Mapping[int, Record]) -> dict[int, MeanStd]:
    """Return mean and standard deviation of AP after each epoch at which all runs were evaluated.

    Args:
        runs: runs by seed.
    """
    curves = [dict(run.curve) for run in runs.values()]
    shared = sorted(set.intersection(*(set(curve) for curve in curves))) if curves else []
    return {epoch: _mean_std([curve[epoch] for curve in curves]) for epoch in shared}


def _mean_std(fractions: Sequence[float]) -> MeanStd:
    values = np.array(fractions)
    if (values < 0).any():
        return MeanStd(mean=-1, sd=None)
    return MeanStd(mean=100 * float(values.mean()), sd=100 * float(values.std(ddof=1)) if len(values) > 1 else None)


def pooled_seed_variance(
    rows: Sequence[Mapping[int, Record]], baseline: Mapping[int, Record]
) -> list[SeedVariance | None]:
    """Pool the variance over seeds of the differences to the baseline over the rows of a table.

    The true standard deviation of a row can be anything from half to six times what three seeds show; the rows of a
    table, which differ in the neck alone, have similar variances. All differences share the runs of the baseline, so
    any two are correlated by 1/2; the degrees of freedom are those of independent estimates of the same precision. A
    row whose variance is ``OUTLIER_FACTOR`` times the median, such as one with a diverged run, is not pooled.

    Args:
        rows: runs by seed of each row but the baseline.
        baseline: runs by seed.

    Returns:
        For each row the variance of its difference; ``None`` where it has to be estimated from the row alone.
    """
    differences = [_ap_differences(_pair_by_seed(runs, baseline)) for runs in rows]
    variances = [float(row.var(ddof=1)) if len(row) > 1 else None for row in differences]
    known = [variance for variance in variances if variance is not None]
    if not known:
        return [None] * len(rows)
    limit = OUTLIER_FACTOR * float(np.median(known))
    pool = [(len(row) - 1, v) for row, v in zip(differences, variances, strict=True) if v is not None and v <= limit]
    freedom = sum(own for own, _ in pool)
    pooled = SeedVariance(sum(own * v for own, v in pool) / freedom, freedom / (1 + (len(pool) - 1) / 4))
    return [pooled if variance is None or variance <= limit else None for variance in variances]


def paired_difference(
    runs: Mapping[int, Record],
    baseline: Mapping[int, Record],
    *,
    seed_variance: SeedVariance | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> PairedDifference | None:
    """Compare runs with the baseline's runs of the same seeds on the same images.

    Args:
        runs: runs by seed.
        baseline: runs by seed.
        seed_variance: variance over seeds; ``None`` to estimate it from these runs.
        level: confidence level.
        seed: seed of the random draws.

    Returns:
        ``None`` where the two have no seed in common.
    """
    return mean_paired_difference([(runs, baseline)], seed_variance=seed_variance, level=level, seed=seed)


def mean_paired_difference(
    pairs: Sequence[tuple[Mapping[int, Record], Mapping[int, Record]]],
    *,
    seed_variance: SeedVariance | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> PairedDifference | None:
    """Compare several rows, each with its baseline, and average the differences.

    Images are resampled with replacement, with the same draws on both sides (``Record.resampled``). Three to ten
    differences are too few to resample over seeds: that error is drawn from Student's t distribution. The confidence
    interval consists of percentiles of the sum of both errors around the measured difference.

    Args:
        pairs: (runs, baseline), each by seed; no run may occur twice, since the differences count as independent.
        seed_variance: variance over seeds; ``None`` to estimate it from these differences.
        level: confidence level.
        seed: seed of the random draws.

    Returns:
        ``None`` where no pair has a seed in common.
    """
    matched = [pair for runs, baseline in pairs for pair in _pair_by_seed(runs, baseline)]
    if not matched:
        return None
    measured = _ap_differences(matched)
    resampled = np.mean([np.subtract(ours.resampled, base.resampled) for ours, base in matched], axis=0)
    errors = np.repeat(resampled - resampled.mean(), SEED_DRAWS)
    if seed_variance is None and len(matched) > 1:
        seed_variance = SeedVariance(float(measured.var(ddof=1)), len(matched) - 1)
    if seed_variance is not None:
        standard_error = np.sqrt(seed_variance.variance / len(matched))
        draws = np.random.default_rng(seed).standard_t(seed_variance.degrees_of_freedom, len(errors))
        errors = errors + standard_error * draws
    low, high = 100 * (measured.mean() + np.quantile(errors, [(1 - level) / 2, (1 + level) / 2]))
    return PairedDifference(
        mean=100 * float(measured.mean()),
        low=low,
        high=high,
        seeds=len(matched),
        over_seeds=seed_variance is not None,
        level=level,
    )


def _pair_by_seed(runs: Mapping[int, Record], baseline: Mapping[int, Record]) -> list[tuple[Record, Record]]:
    return [(runs[seed], baseline[seed]) for seed in sorted(set(runs) & set(baseline))]


def _ap_differences(pairs: Sequence[tuple[Record, Record]]) -> np.ndarray:
    return np.array([ours.metrics["AP"] - base.metrics["AP"] for ours, base in pairs])
