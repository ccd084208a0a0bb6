"""Summary of a table: metrics of its rows beside the published ones, as text, Markdown and CSV."""

import csv
import io
from collections.abc import Mapping, Sequence

from pydantic import BaseModel

from drfpn.ablations.costs import Cost
from drfpn.ablations.statistics import (
    MeanStd,
    PairedDifference,
    mean_paired_difference,
    mean_std,
    mean_std_curve,
    paired_difference,
    pooled_seed_variance,
)
from drfpn.ablations.store import Record
from drfpn.ablations.tables import Table, module_pairs

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


class RowSummary(BaseModel):
    """A row of a table: its metrics over seeds and its difference to the first row."""

    key: str
    title: str
    seeds: list[int]
    """Seeds of the finished runs; without any, ``numbers`` is empty."""
    numbers: dict[str, MeanStd]
    """The six COCO metrics of AP by name, over seeds, in %."""
    curve: dict[int, MeanStd]
    """AP after each epoch at which all runs were evaluated, in %."""
    difference: PairedDifference | None
    """AP minus that of the first row; the variance over seeds is pooled over the rows."""
    hours: float
    """Training time, summed over seeds."""
    cost: Cost | None
    paper: dict[str, float]
    """Published metrics on COCO val2017, in %; empty where the paper has none."""


class ModuleGain(BaseModel):
    """Gain of a module, averaged over all pairs of rows that differ in it alone."""

    difference: PairedDifference
    """AP with the module minus AP without it."""
    paper: float | None
    """Published gain, averaged over the same pairs."""


class Summary(BaseModel):
    """A table with the metrics measured so far."""

    title: str
    about: str
    """Detector, data set and settings, in one line."""
    lines: list[RowSummary]
    parts: dict[str, ModuleGain]
    """Gain by module, for tables with pairs of rows that differ in one module."""


def summarize(table: Table, runs: Mapping[str, Mapping[int, Record]], costs: Mapping[str, Cost], about: str) -> Summary:
    """Summarize the finished runs of a table beside the published metrics.

    Args:
        table: rows and published metrics.
        runs: finished runs by row and seed.
        costs: parameters, multiply-adds, time and memory by row.
        about: detector, data set and settings, in one line.
    """
    baseline = runs[table.rows[0].key]
    seed_variances = [None, *pooled_seed_variance([runs[row.key] for row in table.rows[1:]], baseline)]
    lines = []
    for row, seed_variance in zip(table.rows, seed_variances, strict=True):
        own = runs[row.key]
        published = zip(METRICS, row.paper, strict=True) if row.paper else ()
        lines.append(
            RowSummary(
                key=row.key,
                title=row.title,
                seeds=sorted(own),
                numbers={name: mean_std(own, name) for name in METRICS} if own else {},
                curve=mean_std_curve(own),
                difference=None
                if row == table.rows[0]
                else paired_difference(own, baseline, seed_variance=seed_variance),
                hours=sum(run.seconds for run in own.values()) / 3600,
                cost=costs.get(row.key),
                paper={name: value for name, value in published if value >= 0},
            )
        )
    return Summary(title=table.title, about=about, lines=lines, parts=_module_gains(table, runs))


def _module_gains(table: Table, runs: Mapping[str, Mapping[int, Record]]) -> dict[str, ModuleGain]:
    paper = {row.key: row.paper[0] for row in table.rows if row.paper}
    module_gains = {}
    for name, pairs in module_pairs(table).items():
        difference = mean_paired_difference([(runs[key], runs[other]) for key, other in pairs])
        if difference is not None:
            gains = [paper[key] - paper[other] for key, other in pairs if key in paper and other in paper]
            module_gains[name] = ModuleGain(difference=difference, paper=sum(gains) / len(gains) if gains else None)
    return module_gains


def table_cells(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """Return the column headers and the cells of each row, as text.

    Args:
        summary: the table.
    """
    timed = any(line.cost is not None and line.cost.times is not None for line in summary.lines)
    published = any(line.paper for line in summary.lines)
    heads = ["", "seeds", *METRICS, "AP - first row (95 %)", "params M", "GMACs"]
    heads += ["train time", "test time"] if timed else []
    heads += ["paper AP", "paper's difference"] if published else []
    first = summary.lines[0]
    rows = []
    for line in summary.lines:
        row = [line.title, str(len(line.seeds)), *(_mean_std(line.numbers.get(name)) for name in METRICS)]
        row.append("" if line.difference is None else _difference(line.difference))
        row += ["-", "-"] if line.cost is None else [f"{line.cost.params / 1e6:.2f}", f"{line.cost.macs / 1e9:.2f}"]
        if timed:
            times = None if line.cost is None else line.cost.times
            row += ["-", "-"] if times is None else [f"{t.median:.2f}x" for t in (times.training, times.inference)]
        if published:
            gain = line.paper["AP"] - first.paper["AP"] if line.paper else 0.0
            row += [f"{line.paper['AP']:.1f}" if line.paper else "-", f"{gain:+.1f}" if line is not first else ""]
        rows.append(row)
    return heads, rows


def _mean_std(value: MeanStd | None) -> str:
    if value is None or value.mean < 0:
        return "-"
    return f"{value.mean:.1f}" if value.sd is None else f"{value.mean:.1f} ± {value.sd:.1f}"


def _difference(value: PairedDifference) -> str:
    only = "" if value.over_seeds else " (images only)"
    return f"{value.mean:+.1f} [{value.low:+.1f}, {value.high:+.1f}]{only}"


def module_gain_cells(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """Return the column headers and the cells of the gain of each module, as text.

    Args:
        summary: the table.
    """
    rows = []
    for name, gain in summary.parts.items():
        paper = "-" if gain.paper is None else f"{gain.paper:+.1f}"
        rows.append([name, str(gain.difference.seeds), _difference(gain.difference), paper])
    return ["part", "pairs", "AP with - without (95 %)", "paper's"], rows


def to_markdown(summary: Summary) -> str:
    """Return the table as Markdown: title, settings, rows, gains of the modules.

    Args:
        summary: the table.
    """
    text = f"**{summary.title}**\n\n{summary.about}\n\n" + _markdown(*table_cells(summary))
    return text + ("\n" + _markdown(*module_gain_cells(summary)) if summary.parts else "")


def _markdown(heads: list[str], rows: list[list[str]]) -> str:
    return "".join(_markdown_row(row) + "\n" for row in [heads, ["---"] + ["---:"] * (len(heads) - 1), *rows])


def _markdown_row(row: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


def to_csv(summary: Summary) -> str:
    """Return the table as CSV, one number a cell, empty where there is none.

    Args:
        summary: the table.
    """
    first = summary.lines[0]
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    heads = ["row", "title", "seeds", *(f"{name}{suffix}" for name in METRICS for suffix in ("", "_sd"))]
    heads += ["difference", "low", "high", "hours", "params", "macs", "train_time", "test_time", "paper_AP"]
    out.writerow([*heads, "paper_difference"])
    for line in summary.lines:
        metrics = [line.numbers.get(name) for name in METRICS]
        values = [value for s in metrics for value in ((s.mean, s.sd) if s and s.mean >= 0 else (None, None))]
        difference, cost = line.difference, line.cost
        times = cost.times if cost else None
        out.writerow(
            [line.key, line.title, len(line.seeds), *values]
            + ([difference.mean, difference.low, difference.high] if difference else [None] * 3)
            + [line.hours, *([cost.params, cost.macs] if cost else [None] * 2)]
            + ([times.training.median, times.inference.median] if times else [None] * 2)
            + ([line.paper["AP"], line.paper["AP"] - first.paper["AP"]] if line.paper else [None] * 2)
        )
    return text.getvalue()
