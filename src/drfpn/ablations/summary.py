"""A table of the paper with what was measured beside it: rows of numbers, ready to be printed or drawn."""

import csv
import io
from collections.abc import Mapping, Sequence

from pydantic import BaseModel

from drfpn.ablations.costs import Cost
from drfpn.ablations.statistics import Difference, Spread, difference, mean_difference, seed_noise, spread, spread_curve
from drfpn.ablations.store import Record
from drfpn.ablations.tables import Table, pairs_of_parts

NUMBERS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


class Line(BaseModel):
    """A row of a table."""

    key: str
    title: str
    seeds: list[int]
    """Of the finished runs; none yet, no numbers."""
    numbers: dict[str, Spread]
    """COCO's six, over seeds, in %."""
    curve: dict[int, Spread]
    """AP after each epoch at which all seeds measured it, in %."""
    difference: Difference | None
    """Of AP to the first row; how it varies with the seed is pooled over the rows."""
    hours: float
    """Training time of all seeds."""
    cost: Cost | None
    paper: dict[str, float]
    """The paper's own, in % AP on COCO val2017; empty where it has none."""


class Part(BaseModel):
    """What a part adds, over all pairs of rows that differ in it alone: more runs than a row has."""

    difference: Difference
    """Of AP with it to AP without."""
    paper: float | None
    """The paper's own, the mean over the same pairs."""


class Summary(BaseModel):
    """A table, as far as it is measured."""

    title: str
    about: str
    """What was trained, on what, in one line."""
    lines: list[Line]
    parts: dict[str, Part]
    """By the part's name, where the rows tell what it adds."""


def summarise(table: Table, runs: Mapping[str, Mapping[int, Record]], costs: Mapping[str, Cost], about: str) -> Summary:
    """Put what was measured beside what the paper has.

    Args:
        table: of the paper.
        runs: row -> seed -> finished run.
        costs: by row.
        about: what was trained, on what, in one line.
    """
    baseline = runs[table.rows[0].key]
    noises = [None, *seed_noise([runs[row.key] for row in table.rows[1:]], baseline)]
    lines = []
    for row, noise in zip(table.rows, noises, strict=True):
        own = runs[row.key]
        printed = zip(NUMBERS, row.paper, strict=True) if row.paper else ()
        lines.append(
            Line(
                key=row.key,
                title=row.title,
                seeds=sorted(own),
                numbers={name: spread(own, name) for name in NUMBERS} if own else {},
                curve=spread_curve(own),
                difference=difference(own, baseline, noise=noise) if row != table.rows[0] else None,
                hours=sum(run.seconds for run in own.values()) / 3600,
                cost=costs.get(row.key),
                paper={name: value for name, value in printed if value >= 0},
            )
        )
    return Summary(title=table.title, about=about, lines=lines, parts=_parts(table, runs))


def _parts(table: Table, runs: Mapping[str, Mapping[int, Record]]) -> dict[str, Part]:
    paper = {row.key: row.paper[0] for row in table.rows if row.paper}
    parts = {}
    for name, pairs in pairs_of_parts(table).items():
        gap = mean_difference([(runs[key], runs[other]) for key, other in pairs])
        if gap is not None:
            gains = [paper[key] - paper[other] for key, other in pairs if key in paper and other in paper]
            parts[name] = Part(difference=gap, paper=sum(gains) / len(gains) if gains else None)
    return parts


def cells(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """Return the heads of the columns and the rows, as text."""
    timed = any(line.cost is not None and line.cost.times is not None for line in summary.lines)
    published = any(line.paper for line in summary.lines)
    heads = ["", "seeds", *NUMBERS, "AP - first row (95 %)", "params M", "GMACs"]
    heads += ["train time", "test time"] if timed else []
    heads += ["paper AP", "paper's difference"] if published else []
    first = summary.lines[0]
    rows = []
    for line in summary.lines:
        row = [line.title, str(len(line.seeds)), *(_spread(line.numbers.get(name)) for name in NUMBERS)]
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


def _spread(value: Spread | None) -> str:
    if value is None or value.mean < 0:
        return "-"
    return f"{value.mean:.1f}" if value.sd is None else f"{value.mean:.1f} ± {value.sd:.1f}"


def _difference(value: Difference) -> str:
    only = "" if value.over_seeds else " (images only)"
    return f"{value.mean:+.1f} [{value.low:+.1f}, {value.high:+.1f}]{only}"


def part_cells(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows of what each part adds, as text."""
    rows = []
    for name, part in summary.parts.items():
        paper = "-" if part.paper is None else f"{part.paper:+.1f}"
        rows.append([name, str(part.difference.seeds), _difference(part.difference), paper])
    return ["part", "pairs", "AP with - without (95 %)", "paper's"], rows


def to_markdown(summary: Summary) -> str:
    """Write the table as Markdown, its title and what it is about above, what each part adds below."""
    text = f"**{summary.title}**\n\n{summary.about}\n\n" + _markdown(*cells(summary))
    return text + ("\n" + _markdown(*part_cells(summary)) if summary.parts else "")


def _markdown(heads: list[str], rows: list[list[str]]) -> str:
    return "".join(_markdown_row(row) + "\n" for row in [heads, ["---"] + ["---:"] * (len(heads) - 1), *rows])


def _markdown_row(row: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


def to_csv(summary: Summary) -> str:
    """Write the table as CSV: numbers apart, none where there is nothing."""
    first = summary.lines[0]
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    heads = ["row", "title", "seeds", *(f"{name}{part}" for name in NUMBERS for part in ("", "_sd"))]
    heads += ["difference", "low", "high", "hours", "params", "macs", "train_time", "test_time", "paper_AP"]
    out.writerow([*heads, "paper_difference"])
    for line in summary.lines:
        spreads = [line.numbers.get(name) for name in NUMBERS]
        values = [value for s in spreads for value in ((s.mean, s.sd) if s and s.mean >= 0 else (None, None))]
        gap, cost = line.difference, line.cost
        times = cost.times if cost else None
        out.writerow(
            [line.key, line.title, len(line.seeds), *values]
            + ([gap.mean, gap.low, gap.high] if gap else [None] * 3)
            + [line.hours, *([cost.params, cost.macs] if cost else [None] * 2)]
            + ([times.training.median, times.inference.median] if times else [None] * 2)
            + ([line.paper["AP"], line.paper["AP"] - first.paper["AP"]] if line.paper else [None] * 2)
        )
    return text.getvalue()
