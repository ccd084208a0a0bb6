"""What holds for differences and their intervals."""

import numpy as np
import pytest

from drfpn.ablations.statistics import difference, mean_difference, seed_noise, spread


def test_a_spread_is_mean_and_sample_standard_deviation_in_percent(make_record) -> None:
    runs = {seed: make_record(seed=seed, ap=ap) for seed, ap in enumerate((0.50, 0.52, 0.57))}
    found = spread(runs, "AP")
    assert (found.mean, found.sd) == pytest.approx((53.0, 100 * np.std([0.50, 0.52, 0.57], ddof=1)))
    assert spread({0: runs[0]}, "AP").sd is None


def test_what_no_image_can_show_has_no_mean(make_record) -> None:
    run = make_record()
    run.metrics["APs"] = -1.0
    assert spread({0: run}, "APs").mean == -1


def test_a_difference_is_between_runs_of_the_same_seed(make_record) -> None:
    base = {0: make_record(ap=0.5), 1: make_record(seed=1, ap=0.6), 2: make_record(seed=2, ap=0.1)}
    ours = {0: make_record("drfpn", ap=0.52), 1: make_record("drfpn", 1, ap=0.61), 5: make_record("drfpn", 5, ap=0.9)}
    found = difference(ours, base)
    assert (found.mean, found.seeds) == (pytest.approx(1.5), 2)
    assert found.low < found.mean < found.high
    assert difference(ours, {7: base[0]}) is None


def test_images_that_both_find_hard_do_not_widen_the_interval(make_record) -> None:
    """The draws are paired: what moves both sides alike moves nothing."""
    noise = np.random.default_rng(0).normal(0, 0.05, 1000)
    base = {0: make_record(ap=0.5, resampled=list(0.5 + noise))}
    ours = {0: make_record("drfpn", ap=0.52, resampled=list(0.52 + noise))}
    found = difference(ours, base)
    assert (found.low, found.high) == pytest.approx((2.0, 2.0))
    assert found.clear
    other = np.random.default_rng(1).normal(0, 0.05, 1000)
    wide = difference({0: make_record("drfpn", ap=0.52, resampled=list(0.52 + other))}, base)
    assert wide.high - wide.low == pytest.approx(100 * 2 * 1.96 * 0.05 * np.sqrt(2), rel=0.1)
    assert not wide.clear


def test_seeds_alone_give_students_interval(make_record) -> None:
    gaps = (0.01, 0.02, 0.06)
    base = {seed: make_record(seed=seed) for seed in range(3)}
    ours = {seed: make_record("drfpn", seed, ap=0.5 + gap) for seed, gap in enumerate(gaps)}
    found = difference(ours, base)
    t = 4.303  # 97.5 % of Student's t with 2 degrees of freedom
    # only 10 resamples here, 200 draws of t: read the width from a record with more
    for runs in (base, ours):
        for run in runs.values():
            run.resampled = [run.metrics["AP"]] * 2000
    found = difference(ours, base)
    half = 100 * t * np.std(gaps, ddof=1) / np.sqrt(3)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.06)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_interval_holds_the_truth_as_often_as_it_says(seeds, make_record) -> None:
    """AP as the mean of what 60 images give; both images and seeds vary, some of it alike for both pyramids."""
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
        found = difference(sides["drfpn"], sides["fpn"])
        held += found.low < 100 * truth < found.high
    assert 0.92 < held / trials <= 1


def test_a_part_s_gain_is_the_mean_over_the_pairs_that_differ_in_it(make_record) -> None:
    """Four rows of one seed: as many differences as four seeds of one row."""
    base = [{0: make_record(ap=ap)} for ap in (0.50, 0.52, 0.54, 0.56)]
    gaps = (0.01, 0.02, 0.03, 0.06)
    ours = [{0: make_record("drfpn", ap=b[0].metrics["AP"] + gap)} for b, gap in zip(base, gaps, strict=True)]
    found = mean_difference(list(zip(ours, base, strict=True)))
    assert (found.mean, found.seeds) == (pytest.approx(3.0), 4)
    lower = {s: make_record(seed=s, ap=0.5 - gap) for s, gap in enumerate(gaps)}
    seeds = difference({s: make_record("drfpn", s) for s in range(4)}, lower)
    assert (found.low, found.high) == pytest.approx((seeds.low, seeds.high))
    assert mean_difference([({}, base[0]), (ours[1], {})]) is None


def test_noise_of_one_row_is_its_own_spread(make_record) -> None:
    base = {seed: make_record(seed=seed) for seed in range(3)}
    ours = {seed: make_record("drfpn", seed, ap=0.5 + gap) for seed, gap in enumerate((0.01, 0.02, 0.06))}
    assert seed_noise([ours], base) == [(pytest.approx(np.var([0.01, 0.02, 0.06], ddof=1)), 2)]
    assert difference(ours, base, noise=seed_noise([ours], base)[0]) == difference(ours, base)
    assert seed_noise([{0: ours[0]}, {}], base) == [None, None]


def test_a_run_that_fell_over_leaves_the_other_rows_their_intervals(make_record) -> None:
    base = {seed: make_record(seed=seed) for seed in range(3)}
    calm = [
        {s: make_record("srb", s, ap=0.5 + g) for s, g in enumerate(gaps)} for gaps in ((0, 0.01, 0), (0.01, 0, 0.02))
    ]
    fallen = {seed: make_record("crb", seed, ap=ap) for seed, ap in enumerate((0.5, 0.5, 0.0))}
    alone, pooled = seed_noise(calm, base), seed_noise([*calm, fallen, {0: calm[0][0]}], base)
    assert pooled == [*alone, None, alone[0]]
    assert difference(fallen, base, noise=pooled[2]).low < -50


def test_a_row_of_one_seed_takes_the_noise_of_the_others(make_record) -> None:
    base = {seed: make_record(seed=seed) for seed in range(3)}
    ours = {seed: make_record("drfpn", seed, ap=0.5 + gap) for seed, gap in enumerate((0.01, 0.02, 0.06))}
    alone = difference({0: ours[0]}, base)
    assert (alone.low, alone.high, alone.over_seeds) == (pytest.approx(1), pytest.approx(1), False)
    told = difference({0: ours[0]}, base, noise=seed_noise([ours], base)[0])
    assert told.over_seeds
    assert told.high - told.low > difference(ours, base).high - difference(ours, base).low


@pytest.mark.parametrize("seeds", [2, 3])
def test_the_interval_of_pooled_seeds_holds_the_truth_as_often_as_it_says(seeds, make_record) -> None:
    """Seven rows that share a baseline; only seeds vary, and each moves all rows of its runs alike by some part."""
    rng = np.random.default_rng(seeds)
    held, widths, trials = 0, [], 300
    for _ in range(trials):
        common = rng.normal(0, 0.01, seeds)
        base, *rows = (
            {s: make_record(seed=s, ap=0.5 + common[s] + rng.normal(0, 0.01)) for s in range(seeds)} for _ in range(8)
        )
        for run in [*base.values(), *rows[0].values()]:
            run.resampled = [run.metrics["AP"]] * 100
        found = difference(rows[0], base, noise=seed_noise(rows, base)[0])
        held += found.low < 0 < found.high
        alone = difference(rows[0], base)
        widths.append((found.high - found.low, alone.high - alone.low))
    assert 0.92 < held / trials <= 0.99
    pooled, own = np.mean(widths, axis=0)
    assert pooled < 0.8 * own
