"""Paired differences and their confidence intervals."""

import numpy as np
import pytest

from drfpn.ablations.statistics import (
    mean_paired_difference,
    mean_std,
    paired_difference,
    pooled_seed_variance,
)


def test_mean_and_sample_standard_deviation_are_in_percent(make_record) -> None:
    runs = {seed: make_record(seed=seed, ap=ap) for seed, ap in enumerate((0.50, 0.52, 0.57))}
    result = mean_std(runs, "AP")
    assert (result.mean, result.sd) == pytest.approx((53.0, 100 * np.std([0.50, 0.52, 0.57], ddof=1)))
    assert mean_std({0: runs[0]}, "AP").sd is None


def test_a_metric_without_objects_has_no_mean(make_record) -> None:
    run = make_record()
    run.metrics["APs"] = -1.0
    assert mean_std({0: run}, "APs").mean == -1


def test_a_difference_is_between_runs_of_the_same_seed(make_record) -> None:
    base = {0: make_record(ap=0.5), 1: make_record(seed=1, ap=0.6), 2: make_record(seed=2, ap=0.1)}
    ours = {0: make_record("drfpn", ap=0.52), 1: make_record("drfpn", 1, ap=0.61), 5: make_record("drfpn", 5, ap=0.9)}
    result = paired_difference(ours, base)
    assert (result.mean, result.seeds) == (pytest.approx(1.5), 2)
    assert result.low < result.mean < result.high
    assert paired_difference(ours, {7: base[0]}) is None


def test_errors_over_images_that_both_sides_share_do_not_widen_the_interval(make_record) -> None:
    """The resamples are paired."""
    noise = np.random.default_rng(0).normal(0, 0.05, 1000)
    base = {0: make_record(ap=0.5, resampled=list(0.5 + noise))}
    ours = {0: make_record("drfpn", ap=0.52, resampled=list(0.52 + noise))}
    result = paired_difference(ours, base)
    assert (result.low, result.high) == pytest.approx((2.0, 2.0))
    assert result.excludes_zero
    other = np.random.default_rng(1).normal(0, 0.05, 1000)
    wide = paired_difference({0: make_record("drfpn", ap=0.52, resampled=list(0.52 + other))}, base)
    assert wide.high - wide.low == pytest.approx(100 * 2 * 1.96 * 0.05 * np.sqrt(2), rel=0.1)
    assert not wide.excludes_zero


def test_seeds_alone_give_students_interval(make_record) -> None:
    differences = (0.01, 0.02, 0.06)
    base = {seed: make_record(seed=seed) for seed in range(3)}
    ours = {seed: make_record("drfpn", seed, ap=0.5 + difference) for seed, difference in enumerate(differences)}
    result = paired_difference(ours, base)
    t = 4.303  # 97.5 % of Student's t with 2 degrees of freedom
    # only 10 resamples here, 200 draws of t: read the width from a record with more
    for runs in (base, ours):
        for run in runs.values():
            run.resampled = [run.metrics["AP"]] * 2000
    result = paired_difference(ours, base)
    half = 100 * t * np.std(differences, ddof=1) / np.sqrt(3)
    assert (result.high - result.low) / 2 == pytest.approx(half, rel=0.06)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_interval_has_its_confidence_level(seeds, make_record) -> None:
    """AP is the mean over 60 images; images and seeds vary, partly in the same way for both necks."""
    rng = np.random.default_rng(seeds)
    truth, images, held, trials = 0.02, 60, 0, 300
    weights = np.stack([np.bincount(rng.integers(0, images, images), minlength=images) for _ in range(200)]) / images
    for _ in range(trials):
        hard = rng.normal(0, 0.2, images)  # for both
        gain = truth + rng.normal(0, 0.05, images)  # of an image, in the mean over seeds
        sides: dict[str, dict[int, object]] = {"fpn": {}, "drfpn": {}}
        for seed in range(seeds):
            for side, runs in sides.items():
                values = 0.5 + hard + (gain if side == "drfpn" else 0) + rng.normal(0, 0.01)
                values = values + rng.normal(0, 0.02, images)
                runs[seed] = make_record(side, seed, ap=float(values.mean()), resampled=list(weights @ values))
        result = paired_difference(sides["drfpn"], sides["fpn"])
        held += result.low < 100 * truth < result.high
    assert 0.92 < held / trials <= 1


def test_the_gain_of_a_module_is_the_mean_over_the_pairs_that_differ_in_it(make_record) -> None:
    """Four rows of one seed: as many differences as four seeds of one row."""
    base = [{0: make_record(ap=ap)} for ap in (0.50, 0.52, 0.54, 0.56)]
    differences = (0.01, 0.02, 0.03, 0.06)
    ours = [
        {0: make_record("drfpn", ap=b[0].metrics["AP"] + difference)}
        for b, difference in zip(base, differences, strict=True)
    ]
    result = mean_paired_difference(list(zip(ours, base, strict=True)))
    assert (result.mean, result.seeds) == (pytest.approx(3.0), 4)
    lower = {s: make_record(seed=s, ap=0.5 - difference) for s, difference in enumerate(differences)}
    seeds = paired_difference({s: make_record("drfpn", s) for s in range(4)}, lower)
    assert (result.low, result.high) == pytest.approx((seeds.low, seeds.high))
    assert mean_paired_difference([({}, base[0]), (ours[1], {})]) is None


def test_the_pooled_variance_of_one_row_is_its_own(make_record) -> None:
    base = {seed: make_record(seed=seed) for seed in range(3)}
    ours = {seed: make_record("drfpn", seed, ap=0.5 + difference) for seed, difference in enumerate((0.01, 0.02, 0.06))}
    assert pooled_seed_variance([ours], base) == [(pytest.approx(np.var([0.01, 0.02, 0.06], ddof=1)), 2)]
    assert paired_difference(ours, base, seed_variance=pooled_seed_variance([ours], base)[0]) == paired_difference(
        ours, base
    )
    assert pooled_seed_variance([{0: ours[0]}, {}], base) == [None, None]


def test_a_diverged_run_does_not_widen_the_intervals_of_other_rows(make_record) -> None:
    base = {seed: make_record(seed=seed) for seed in range(3)}
    calm = [
        {s: make_record("srb", s, ap=0.5 + g) for s, g in enumerate(differences)}
        for differences in ((0, 0.01, 0), (0.01, 0, 0.02))
    ]
    diverged = {seed: make_record("crb", seed, ap=ap) for seed, ap in enumerate((0.5, 0.5, 0.0))}
    alone, pooled = pooled_seed_variance(calm, base), pooled_seed_variance([*calm, diverged, {0: calm[0][0]}], base)
    assert pooled == [*alone, None, alone[0]]
    assert paired_difference(diverged, base, seed_variance=pooled[2]).low < -50


def test_a_row_of_one_seed_has_the_variance_of_the_others(make_record) -> None:
    base = {seed: make_record(seed=seed) for seed in range(3)}
    ours = {seed: make_record("drfpn", seed, ap=0.5 + difference) for seed, difference in enumerate((0.01, 0.02, 0.06))}
    alone = paired_difference({0: ours[0]}, base)
    assert (alone.low, alone.high, alone.over_seeds) == (pytest.approx(1), pytest.approx(1), False)
    pooled = paired_difference({0: ours[0]}, base, seed_variance=pooled_seed_variance([ours], base)[0])
    assert pooled.over_seeds
    assert pooled.high - pooled.low > paired_difference(ours, base).high - paired_difference(ours, base).low


@pytest.mark.parametrize("seeds", [2, 3])
def test_the_interval_with_pooled_variance_has_its_confidence_level(seeds, make_record) -> None:
    """Seven rows that share a baseline; only seeds vary, with an error that all rows of a seed share."""
    rng = np.random.default_rng(seeds)
    held, widths, trials = 0, [], 300
    for _ in range(trials):
        common = rng.normal(0, 0.01, seeds)
        base, *rows = (
            {s: make_record(seed=s, ap=0.5 + common[s] + rng.normal(0, 0.01)) for s in range(seeds)} for _ in range(8)
        )
        for run in [*base.values(), *rows[0].values()]:
            run.resampled = [run.metrics["AP"]] * 100
        result = paired_difference(rows[0], base, seed_variance=pooled_seed_variance(rows, base)[0])
        held += result.low < 0 < result.high
        alone = paired_difference(rows[0], base)
        widths.append((result.high - result.low, alone.high - alone.low))
    assert 0.92 < held / trials <= 0.99
    pooled, own = np.mean(widths, axis=0)
    assert pooled < 0.8 * own
