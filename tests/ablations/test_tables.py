"""Rows of the tables of the paper."""

import math
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from drfpn import DRFPN, FPN, build_detector
from drfpn.ablations.plan import plan
from drfpn.ablations.tables import NECK_CONFIGS, PAPER_NECKS, TABLES, choose_rows, find_table, module_pairs
from drfpn.necks import NECKS
from drfpn.training.trial_step import run_trial_step
from drfpn.utils.errors import UserError

R50 = (256, 512, 1024, 2048)
FPN_MODEL = 41_527_712
"""Trainable parameters of Faster R-CNN R50 with FPN and 80 classes (41.53 M of Table 7)."""
paper_necks = pytest.mark.parametrize("key", PAPER_NECKS)
all_necks = pytest.mark.parametrize("key", NECK_CONFIGS)


def neck(key: str, channels=R50, width: int = 256, **options) -> nn.Module:
    config = NECK_CONFIGS[key]
    return NECKS[config.neck](channels, width, **config.options, **options)


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def added(key: str, **options) -> int:
    """Return the parameters that a neck has more than FPN."""
    with torch.device("meta"):
        return size(neck(key, **options)) - size(FPN(R50))


def test_the_tables_have_the_papers_rows() -> None:
    assert [len(TABLES[f"table{n}"].rows) for n in range(2, 8)] == [8, 10, 6, 6, 6, 5]
    used = {row.key for table in TABLES.values() for row in table.rows}
    assert used == set(NECK_CONFIGS)
    models = {(p.neck, str(sorted({**p.options, **p.detector}.items()))) for p in NECK_CONFIGS.values()}
    assert len(models) == len(NECK_CONFIGS)
    assert len(PAPER_NECKS) == 26


def test_every_neck_for_faster_rcnn_is_among_the_baselines() -> None:
    baselines = {NECK_CONFIGS[row.key].neck for row in TABLES["baselines"].rows}
    assert set(NECKS) - baselines == {
        "simple_fpn",
        "sepc",
        "fpn_scale",
        "refined",
    }  # for ViTs, one-stage detectors, the census


def test_a_row_that_several_tables_print_has_the_same_numbers_but_for_the_papers_own_slip() -> None:
    """SRB + CRB: Table 2 prints 21.5 for small objects, as Table 7 does, Table 3 prints 22.0."""
    printed: dict[str, set[tuple[float, ...]]] = {}
    for table in TABLES.values():
        for row in table.rows:
            if row.paper and -1 not in row.paper:
                printed.setdefault(row.key, set()).add(row.paper)
    assert {key for key, numbers in printed.items() if len(numbers) > 1} == {"srb-crb"}


@pytest.mark.parametrize(
    ("key", "printed"),
    [("fpn", 41.53), ("srb-crb", 47.79), ("drfpn", 48.38), ("dense-aspp", 60.05)],
)
@pytest.mark.parametrize("convention", ["bounded", "paper", "release"])
def test_parameters_are_table_7s_to_the_last_digit(key, printed, convention) -> None:
    options = {} if key == "fpn" else {"convention": convention}
    assert round((FPN_MODEL + added(key, **options)) / 1e6, 2) == printed


def test_non_local_is_within_a_tenth_of_a_million_of_table_7() -> None:
    assert round((FPN_MODEL + added("non-local", convention="release")) / 1e6, 2) == 49.89  # paper: 49.95


def test_what_a_row_adds_follows_from_its_layers() -> None:
    w = 256
    conv, gate, srb = 9 * w * w + w, w * w + w, 251_649
    crb, ppm, pairs = gate + conv, 590_080, 3
    assert added("srb") == pairs * srb
    assert added("crb") == pairs * (crb + 2 * conv)
    assert added("ppm") == ppm
    assert added("srb-crb") == pairs * (srb + crb + 2 * conv)
    assert added("srb-ppm") == added("srb") + ppm
    assert added("crb-ppm") == added("crb") + ppm
    assert added("drfpn") == added("srb-crb") + ppm == added("drfpn-release") - pairs * 2 * w
    assert added("pafpn") == pairs * 2 * conv == added("bu-ppm") - ppm
    assert added("td-srb-crb") == pairs * (srb + crb) == added("td-srb-crb-ppm") - ppm
    assert added("td-crb-bu-srb") == added("srb-crb") == added("td-crb-bu-srb-ppm") - ppm
    assert added("fpn-dcn") == 4 * (9 * w * 18 + 18)
    assert added("spo") + added("gir") == added("drfpn") + added("crb-ppm") + pairs * size_of_guide(w)
    # of both maps: two projections, the transposed convolution, and heads that read w channels
    deconv, half = 9 * (w // 2) ** 2 + w // 2, w * w // 2
    heads = 9 * (w // 2) * 2 + half // 2  # half of the heads' first layers
    assert added("drfpn") - added("srb-from-sum") == pairs * heads
    assert added("srb-from-sum") - added("srb-from-coarse") == pairs * half
    assert added("srb-from-coarse") - added("srb-from-fine") == pairs * deconv
    assert added("crb-from-coarse") == added("drfpn")
    assert added("crb-from-sum") == added("drfpn") + pairs * conv
    assert added("crb-from-both") == added("crb-from-sum") + pairs * (2 * w * w + w)


def test_the_reproduction_page_has_the_parameters_of_every_row_that_it_names() -> None:
    page = (Path(__file__).parents[2] / "docs/reproduction.md").read_text(encoding="utf-8")
    rows = [re.match(r"\| `([\w-]+)`.* \| ([\d,]+) \|$", line) for line in page.splitlines()]
    named = {row[1]: int(row[2].replace(",", "")) for row in rows if row}
    assert len(named) == 16
    for key, parameters in named.items():
        assert added(key) == parameters, key


def size_of_guide(w: int) -> int:
    return w * w + 9 * (w // 2) ** 2 + w // 2


@paper_necks
@pytest.mark.parametrize("hw", [(32, 48), (25, 37)])
def test_every_neck_runs_forward_and_backward_and_no_branch_is_dead(key, hw, pyramid_maps) -> None:
    """Parameters behind a weight that is initialized with zero have a gradient from the second step on."""
    pyramid = neck(key, (8, 12, 16, 20), 16).train()
    maps = pyramid_maps((8, 12, 16, 20), *hw)
    optimizer = torch.optim.SGD(pyramid.parameters(), lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        out = pyramid(maps)
        assert [m.shape for m in out] == [(2, 16, *m.shape[-2:]) for m in maps]
        sum(m.square().mean() for m in out).backward()
        optimizer.step()
    dead = [name for name, p in pyramid.named_parameters() if p.grad is None or not p.grad.any()]
    assert not dead
    assert all(p.grad.isfinite().all() for p in pyramid.parameters())


@paper_necks
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("relu", [False, True])
def test_every_level_starts_within_a_factor_of_fpns(key, scale, relu, pyramid_maps) -> None:
    """A factor of 2 but for PAFPN's path, which adds its input, and for a context module without another module."""
    channels = (24, 40, 112, 320)
    maps = pyramid_maps(channels, 32, 48, scale=scale)
    maps = [m.relu() for m in maps] if relu else maps
    with torch.no_grad():
        theirs = torch.stack([m.std() for m in FPN(channels, 64)(maps)])
        ours = torch.stack([m.std() for m in neck(key, channels, 64).train()(maps)])
    ratio = ours / theirs
    limit = 3.5 if key in ("pafpn", "bu-ppm") else 2
    assert ratio.min() > 1 / limit, ratio
    assert ratio.max() < limit, ratio


@paper_necks
@pytest.mark.slow
def test_every_neck_runs_forward_and_backward_at_the_papers_width(key, pyramid_maps) -> None:
    pyramid = neck(key).train()
    maps = [m.requires_grad_() for m in pyramid_maps(R50, 32, 40, batch=1)]
    out = pyramid(maps)
    sum(m.square().mean() for m in out).backward()
    assert all(m.isfinite().all() for m in out)
    assert all(m.grad is not None and m.grad.isfinite().all() and m.grad.any() for m in maps)


@all_necks
@pytest.mark.slow
def test_every_row_trains_a_step_at_the_small_scale(key) -> None:
    run = next(run for name in TABLES for run in plan(TABLES[name], "shapes") if run.row == key)
    config = run.config
    detector = build_detector(
        config.model,
        3,
        neck_options=config.neck_options,
        width=config.width,
        norm_eval=False,
        frozen_stages=-1,
        min_size=128,
        max_size=160,
        **config.detector_options,
    )
    before = {name: p.detach().clone() for name, p in detector.backbone.neck.named_parameters()}
    taken = run_trial_step(detector, 128, 160)
    assert math.isfinite(taken.loss)
    assert not taken.without
    moved = [name for name, p in detector.backbone.neck.named_parameters() if not p.equal(before[name])]
    assert moved


@paper_necks
def test_every_row_builds_at_the_papers_scale(key) -> None:
    config = NECK_CONFIGS[key]
    with torch.device("meta"):
        detector = build_detector(f"faster_rcnn_r50_{config.neck}", 80, neck_options=config.options)
    trainable = sum(p.numel() for p in detector.parameters() if p.requires_grad)
    assert trainable == FPN_MODEL + added(key)


def test_a_table_is_found_by_its_number_and_an_unknown_one_is_named() -> None:
    assert find_table("3") is TABLES["table3"]
    with pytest.raises(UserError, match=r"no table 'tabel3'.*Did you mean 'table3'"):
        find_table("tabel3")


def test_rows_are_chosen_with_the_first_which_they_are_compared_with() -> None:
    chosen = choose_rows(TABLES["table2"], ["drfpn", "srb"])
    assert [row.key for row in chosen.rows] == ["fpn", "srb", "drfpn"]
    with pytest.raises(UserError, match=r"Table 2 has no row 'srbb'.*Did you mean 'srb'"):
        choose_rows(TABLES["table2"], ["srbb"])


def test_the_default_neck_is_the_last_row_of_table_2() -> None:
    assert size(DRFPN((8, 12), 16)) == size(neck("drfpn", (8, 12), 16))


def test_pairs_of_rows_that_differ_in_one_module_use_each_row_once() -> None:
    pairs = module_pairs(TABLES["table2"])
    assert list(pairs) == ["SRB", "CRB", "PPM"]
    assert all(len(keys) == 4 and len({key for pair in keys for key in pair}) == 8 for keys in pairs.values())
    assert ("drfpn", "crb-ppm") in pairs["SRB"]
    assert {module: len(keys) for module, keys in module_pairs(TABLES["table3"]).items()} == {"BU": 2, "PPM": 5}
    assert ("bu-ppm", "ppm") in module_pairs(TABLES["table3"])["BU"]
    assert not module_pairs(TABLES["table5"])
