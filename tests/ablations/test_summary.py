"""Tables as text and as plots."""

import csv
import io

import pytest
from PIL import Image

from drfpn.ablations.costs import Cost
from drfpn.ablations.plots import draw_curves, draw_summary, exclude_outliers
from drfpn.ablations.statistics import PairedDifference
from drfpn.ablations.summary import summarize, table_cells, to_csv, to_markdown
from drfpn.ablations.tables import TABLES
from drfpn.ablations.timing import RelativeTimes, TimeRatio


@pytest.fixture
def summary(make_record):
    """Table 2 with two rows measured, one of them in part, and the others not started."""
    runs = {row.key: {} for row in TABLES["table2"].rows}
    runs["fpn"] = {seed: make_record(seed=seed, ap=0.5 + seed / 100) for seed in range(2)}
    runs["drfpn"] = {0: make_record("drfpn", ap=0.53)}
    ratio = TimeRatio(median=1.25, low=1.2, high=1.3, seconds=2.0)
    times = RelativeTimes(training=ratio, inference=ratio.model_copy(update={"median": 1.1}), neck=ratio)
    cost = Cost(params=48_380_835, macs=int(253.7e9), published_macs=int(263.8e9), height=8, width=8, times=times)
    return summarize(TABLES["table2"], runs, {"drfpn": cost}, "what | where")


def test_rows_say_what_was_measured_and_leave_the_rest_open(summary) -> None:
    heads, rows = table_cells(summary)
    table = [dict(zip(heads, row, strict=True)) for row in rows]
    first, last, open_ = table[0], table[-1], table[1]
    assert (first[""], first["seeds"], first["AP"]) == ("baseline", "2", "50.5 ± 0.7")
    assert last["AP"] == "53.0"
    assert last["AP - first row (95 %)"].startswith("+3.0 [")
    assert last["AP - first row (95 %)"].endswith("(images only)")
    assert (last["params M"], last["train time"], last["test time"]) == ("48.38", "1.25x", "1.10x")
    assert (last["paper AP"], last["paper's difference"]) == ("39.1", "+1.9")
    assert (open_["seeds"], open_["AP"], open_["AP - first row (95 %)"], open_["params M"]) == ("0", "-", "", "-")


def test_csv_holds_the_same_numbers(summary) -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(summary))))
    assert [row["row"] for row in rows] == [line.key for line in summary.lines]
    assert float(rows[0]["AP"]) == pytest.approx(50.5)
    assert float(rows[-1]["difference"]) == pytest.approx(3.0)
    assert (rows[1]["AP"], rows[1]["difference"], rows[0]["difference"]) == ("", "", "")
    assert float(rows[-1]["paper_difference"]) == pytest.approx(1.9)


def test_markdown_is_one_table_whatever_the_words_hold(summary) -> None:
    lines = [line for line in to_markdown(summary).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(summary.lines)
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1


@pytest.mark.parametrize("table", ["table3", "pyramids"])
def test_a_picture_is_drawn_of_what_there_is(table, make_record, tmp_path) -> None:
    def drawn(runs) -> Image.Image:
        draw_summary(summarize(TABLES[table], runs, {}, "about"), tmp_path / "t.png")
        return Image.open(tmp_path / "t.png").convert("RGB")

    runs = {row.key: {} for row in TABLES[table].rows}
    empty = drawn(runs)
    runs["fpn"], runs["drfpn"] = {0: make_record()}, {0: make_record("drfpn", ap=0.55)}
    assert drawn(runs).tobytes() != empty.tobytes()


def test_a_curve_has_the_epochs_that_all_seeds_measured(make_record, tmp_path) -> None:
    runs = {row.key: {} for row in TABLES["pyramids"].rows}
    for seed, curve in enumerate(([(4, 0.3), (8, 0.5)], [(2, 0.1), (4, 0.4), (8, 0.5)])):
        runs["fpn"][seed] = make_record(seed=seed)
        runs["fpn"][seed].curve = curve
    summary = summarize(TABLES["pyramids"], runs, {}, "about")
    first = summary.lines[0].curve
    assert {epoch: round(s.mean, 6) for epoch, s in first.items()} == {4: 35.0, 8: 50.0}
    assert first[4].sd == pytest.approx(100 * 0.1 / 2**0.5)
    assert summary.lines[2].curve == {}
    draw_curves(summary, tmp_path / "with.png")
    runs["drfpn"] = {0: runs["fpn"][0]}
    draw_curves(summarize(TABLES["pyramids"], runs, {}, "about"), tmp_path / "more.png")
    assert (tmp_path / "with.png").read_bytes() != (tmp_path / "more.png").read_bytes()


def test_the_gains_of_modules_follow_the_table(make_record) -> None:
    table = TABLES["table2"]
    runs = {row.key: {0: make_record(row.key, ap=0.5 + 0.02 * ("SRB" in row.title))} for row in table.rows}
    summary = summarize(table, runs, {}, "about")
    gains = {name: (round(gain.difference.mean, 6), gain.difference.seeds) for name, gain in summary.parts.items()}
    assert gains == {"SRB": (2.0, 4), "CRB": (0.0, 4), "PPM": (0.0, 4)}
    assert summary.parts["CRB"].paper == pytest.approx((0.8 + 0.5 + 0.6 + 0.8) / 4)  # as Table 2 prints them
    assert "| SRB | 4 | +2.0 [+2.0, +2.0] | +0.5 |" in to_markdown(summary).splitlines()


def test_the_interval_of_a_diverged_run_does_not_set_the_axis() -> None:
    narrow = [
        PairedDifference(mean=1, low=low, high=low + 3, seeds=3, over_seeds=True, level=0.95) for low in (-1, 0, 0.5)
    ]
    wide = narrow[0].model_copy(update={"low": -90, "high": 56})
    assert exclude_outliers([*narrow, wide]) == narrow
    assert exclude_outliers(narrow) == narrow
    assert exclude_outliers([]) == []
