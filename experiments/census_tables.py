"""Tables and a plot of the census: ``python experiments/census_tables.py``.

Writes ``experiments/census/tables.md`` and ``census.png`` from the stored results. Differences are paired by seed and
by validation image; their confidence intervals cover other seeds and other images of the same data sets. Means over
data sets give each data set the same weight.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import t as student

from drfpn.ablations.store import Record, Store
from drfpn.ablations.tables import TABLES

HERE = Path(__file__).parent / "census"
CHOSEN_ON = ("raccoon", "bccd", "shapes")
JUDGED_ON = ("deeppcb", "dsb2018", "hdbpmn")
TITLES = {row.key: row.title for row in TABLES["census"].rows}

Runs = Mapping[int, Record]
"""Results by seed."""


class Estimate(NamedTuple):
    """Mean difference of AP, in %."""

    mean: float
    variance: float
    degrees_of_freedom: float
    runs: int
    """Number of pairs of runs."""

    @property
    def half(self) -> float:
        """Half width of the 95 % interval."""
        return float(student.ppf(0.975, self.degrees_of_freedom)) * math.sqrt(self.variance)

    def __str__(self) -> str:
        return f"{self.mean:+.1f} [{self.mean - self.half:+.1f}, {self.mean + self.half:+.1f}]"


def compare(runs: Runs, baseline: Runs) -> Estimate | None:
    """Return the difference on one data set, or ``None`` for less than two common seeds."""
    seeds = sorted(set(runs) & set(baseline))
    if len(seeds) < 2:
        return None
    differences = np.array([100 * (runs[seed].metrics["AP"] - baseline[seed].metrics["AP"]) for seed in seeds])
    resampled = [100 * np.subtract(runs[seed].resampled, baseline[seed].resampled) for seed in seeds]
    over_seeds = differences.var(ddof=1) / len(seeds)
    over_images = np.mean(resampled, axis=0).var()
    # Welch-Satterthwaite: a thousand resamples estimate the variance over images, a few runs that over seeds
    freedom = (over_seeds + over_images) ** 2 / (over_seeds**2 / (len(seeds) - 1) + over_images**2 / 1000)
    return Estimate(float(differences.mean()), float(over_seeds + over_images), float(freedom), len(seeds))


def pool(estimates: Sequence[Estimate]) -> Estimate:
    """Return the mean over data sets."""
    variances = [estimate.variance / len(estimates) ** 2 for estimate in estimates]
    freedom = sum(variances) ** 2 / sum(v**2 / e.degrees_of_freedom for v, e in zip(variances, estimates, strict=True))
    mean = sum(estimate.mean for estimate in estimates) / len(estimates)
    return Estimate(mean, sum(variances), freedom, sum(estimate.runs for estimate in estimates))


def load(model: str, suffix: str = "") -> dict[str, dict[str, dict[int, Record]]]:
    """Return the results by data set, row and seed."""
    results: dict[str, dict[str, dict[int, Record]]] = {}
    for name in (*CHOSEN_ON, *JUDGED_ON):
        file = HERE / f"{name}-{model}{suffix}" / "results.jsonl"
        if file.exists():
            for (row, seed), record in sorted(Store(file).records.items()):
                results.setdefault(name, {}).setdefault(row, {})[seed] = record
    return results


def ap_table(results: dict[str, dict[str, dict[int, Record]]]) -> list[list[str]]:
    """Return mean and standard deviation of AP over seeds, of each row on each data set."""
    rows = [["", *(f"{name} (AP)" for name in results)]]
    for key in TITLES:
        if any(key in runs for runs in results.values()):
            rows.append([TITLES[key], *(mean_std(runs.get(key, {})) for runs in results.values())])
    return rows


def mean_std(runs: Runs) -> str:
    """Format mean and standard deviation over seeds."""
    values = [100 * run.metrics["AP"] for run in runs.values()]
    if not values:
        return "-"
    sd = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{np.mean(values):.1f}{sd} ({len(values)})"


def differences(
    results: dict[str, dict[str, dict[int, Record]]],
    baseline: str,
    others: Mapping[str, Mapping[str, Runs]] | None = None,
) -> dict[str, dict[str, Estimate]]:
    """Return the differences to a baseline, perhaps of other runs, by row and data set or group of data sets."""
    table: dict[str, dict[str, Estimate]] = {}
    for key in TITLES:
        own = {}
        for name, runs in results.items():
            base = (others or results).get(name, {}).get(baseline, {})
            if (key != baseline or others) and (estimate := compare(runs.get(key, {}), base)):
                own[name] = estimate
        for title, names in (("chosen on", CHOSEN_ON), ("judged on", JUDGED_ON), ("all", CHOSEN_ON + JUDGED_ON)):
            if all(name in own for name in names):
                own[title] = pool([own[name] for name in names])
        if own:
            table[key] = own
    return table


def difference_table(rows: dict[str, dict[str, Estimate]]) -> list[list[str]]:
    """Return a line for each row and a column for each data set and group of data sets."""
    names = [
        n for n in (*CHOSEN_ON, *JUDGED_ON, "chosen on", "judged on", "all") if any(n in own for own in rows.values())
    ]
    return [["", *names]] + [[TITLES[key], *(str(own.get(n, "-")) for n in names)] for key, own in rows.items()]


def stability_table(lines: Sequence[dict[str, object]]) -> list[list[str]]:
    """Return the number of diverged runs by row, data set and learning rate."""
    groups = list(dict.fromkeys(str(line["group"]) for line in lines))
    rows = [["", *groups]]
    for key in TITLES:
        own = [line for line in lines if line["row"] == key]
        if own:
            cells = []
            for group in groups:
                runs = [line for line in own if line["group"] == group]
                cells.append(f"{sum(map(diverged, runs))} of {len(runs)}" if runs else "-")
            rows.append([TITLES[key], *cells])
    return rows


def diverged(line: dict[str, object]) -> bool:
    """Return whether a short run diverged: its loss is not finite, or rose above 3."""
    losses: list[float] = line["losses"]  # type: ignore[assignment]
    return not losses or not all(map(math.isfinite, losses)) or (losses[-1] > losses[0] and losses[-1] > 3)


def markdown(rows: list[list[str]]) -> str:
    """Format a table as Markdown."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|---|" + "---|" * (len(rows[0]) - 1), *lines[1:]]) + "\n"


def draw(rows: dict[str, dict[str, Estimate]], file: Path) -> None:
    """Plot differences to FPN with their confidence intervals."""
    figure = Figure(figsize=(8, 1 + 0.28 * sum(len(own) for own in rows.values())), layout="constrained")
    axis = figure.subplots()
    labels: list[str] = []
    for key, own in rows.items():
        for name, estimate in own.items():
            pooled = name in ("chosen on", "judged on", "all")
            color = "tab:red" if name == "judged on" else "0.1" if pooled else "tab:blue"
            axis.errorbar(
                estimate.mean, -len(labels), xerr=estimate.half, fmt="D" if pooled else "o", color=color, capsize=2
            )
            labels.append(f"{TITLES[key]}, {'pooled: ' + name if pooled else name}")
    axis.axvline(0, color="0.6", linewidth=0.8)
    axis.set_yticks([-i for i in range(len(labels))], labels, fontsize=8)
    axis.set_xlabel("AP over FPN, 95 % interval over seeds and images")
    figure.savefig(file, dpi=110)


def main() -> None:
    """Write tables and plot."""
    text = "Written by `python experiments/census_tables.py`. In brackets: runs, or 95 % intervals.\n"
    for model in ("faster_rcnn_lite0", "retinanet_lite0"):
        results = load(model)
        if not results:
            continue
        to_fpn = differences(results, "fpn")
        text += f"\n## {model}, 8 epochs\n\n{markdown(ap_table(results))}"
        text += f"\nAP over FPN:\n\n{markdown(difference_table(to_fpn))}"
        if to_pafpn := {key: own for key, own in differences(results, "pafpn").items() if key == "drfpn"}:
            text += f"\nAP over PAFPN:\n\n{markdown(difference_table(to_pafpn))}"
        for epochs in sorted({folder.name.split("-")[-2] for folder in HERE.glob(f"*-{model}-*-epochs")}):
            others = load(model, f"-{epochs}-epochs")
            rows = {key: own for key, own in differences(results, "fpn", others).items() if key == "drfpn"}
            if rows:
                text += f"\nAP over FPN trained for {epochs} epochs (equal time):\n\n{markdown(difference_table(rows))}"
        if model == "faster_rcnn_lite0" and to_fpn:
            draw(to_fpn, HERE / "census.png")
    file = HERE / "stability.jsonl"
    if file.exists():
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        text += f"\n## Runs that diverged within two epochs\n\n{markdown(stability_table(lines))}"
    (HERE / "tables.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
