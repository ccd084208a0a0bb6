"""Tables and a picture of the census: ``python experiments/census_tables.py``.

Writes ``experiments/census/tables.md`` and ``census.png`` from the results that are there. A difference is paired by
seed and by validation image; its interval covers other seeds and other images of the same data sets, which are taken as
given. Pooled over data sets, each counts as much as another.
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
"""By seed."""


class Estimate(NamedTuple):
    """A mean difference of AP, in %."""

    mean: float
    variance: float
    freedom: float
    runs: int
    """On each side."""

    @property
    def half(self) -> float:
        """Half of the 95 % interval."""
        return float(student.ppf(0.975, self.freedom)) * math.sqrt(self.variance)

    def __str__(self) -> str:
        return f"{self.mean:+.1f} [{self.mean - self.half:+.1f}, {self.mean + self.half:+.1f}]"


def compare(runs: Runs, baseline: Runs) -> Estimate | None:
    """Compare runs on one data set; at least two seeds on both sides."""
    seeds = sorted(set(runs) & set(baseline))
    if len(seeds) < 2:
        return None
    gaps = np.array([100 * (runs[seed].metrics["AP"] - baseline[seed].metrics["AP"]) for seed in seeds])
    resampled = [100 * np.subtract(runs[seed].resampled, baseline[seed].resampled) for seed in seeds]
    of_seeds = gaps.var(ddof=1) / len(seeds)
    of_images = np.mean(resampled, axis=0).var()
    # the variance over images is known from a thousand draws, that over seeds from a few: Welch and Satterthwaite
    freedom = (of_seeds + of_images) ** 2 / (of_seeds**2 / (len(seeds) - 1) + of_images**2 / 1000)
    return Estimate(float(gaps.mean()), float(of_seeds + of_images), float(freedom), len(seeds))


def pool(estimates: Sequence[Estimate]) -> Estimate:
    """Average over data sets."""
    shares = [estimate.variance / len(estimates) ** 2 for estimate in estimates]
    freedom = sum(shares) ** 2 / sum(s**2 / e.freedom for s, e in zip(shares, estimates, strict=True))
    mean = sum(estimate.mean for estimate in estimates) / len(estimates)
    return Estimate(mean, sum(shares), freedom, sum(estimate.runs for estimate in estimates))


def load(model: str, suffix: str = "") -> dict[str, dict[str, dict[int, Record]]]:
    """Return data set -> row -> seed -> run."""
    found: dict[str, dict[str, dict[int, Record]]] = {}
    for name in (*CHOSEN_ON, *JUDGED_ON):
        file = HERE / f"{name}-{model}{suffix}" / "results.jsonl"
        if file.exists():
            for (row, seed), record in sorted(Store(file).records.items()):
                found.setdefault(name, {}).setdefault(row, {})[seed] = record
    return found


def ap_table(found: dict[str, dict[str, dict[int, Record]]]) -> list[list[str]]:
    """Return AP of each row on each data set: mean and, over seeds, standard deviation."""
    rows = [["", *(f"{name} (AP)" for name in found)]]
    for key in TITLES:
        if any(key in runs for runs in found.values()):
            rows.append([TITLES[key], *(spread(runs.get(key, {})) for runs in found.values())])
    return rows


def spread(runs: Runs) -> str:
    """Write mean and standard deviation over seeds."""
    values = [100 * run.metrics["AP"] for run in runs.values()]
    if not values:
        return "-"
    sd = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{np.mean(values):.1f}{sd} ({len(values)})"


def differences(
    found: dict[str, dict[str, dict[int, Record]]],
    baseline: str,
    others: Mapping[str, Mapping[str, Runs]] | None = None,
) -> dict[str, dict[str, Estimate]]:
    """Return row -> data set or pool -> difference to the baseline, which may come from other runs."""
    result: dict[str, dict[str, Estimate]] = {}
    for key in TITLES:
        own = {}
        for name, runs in found.items():
            base = (others or found).get(name, {}).get(baseline, {})
            if (key != baseline or others) and (estimate := compare(runs.get(key, {}), base)):
                own[name] = estimate
        for title, names in (("chosen on", CHOSEN_ON), ("judged on", JUDGED_ON), ("all", CHOSEN_ON + JUDGED_ON)):
            if all(name in own for name in names):
                own[title] = pool([own[name] for name in names])
        if own:
            result[key] = own
    return result


def difference_table(rows: dict[str, dict[str, Estimate]]) -> list[list[str]]:
    """Return a line for each row and a column for each data set and pool."""
    names = [
        n for n in (*CHOSEN_ON, *JUDGED_ON, "chosen on", "judged on", "all") if any(n in own for own in rows.values())
    ]
    return [["", *names]] + [[TITLES[key], *(str(own.get(n, "-")) for n in names)] for key, own in rows.items()]


def stability_table(lines: Sequence[dict[str, object]]) -> list[list[str]]:
    """Count the runs that diverged, of all, by data set and rate."""
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
    """Say whether a short run diverged: not finite, or its mean loss rose, and above 3."""
    losses: list[float] = line["losses"]  # type: ignore[assignment]
    return not losses or not all(map(math.isfinite, losses)) or (losses[-1] > losses[0] and losses[-1] > 3)


def markdown(rows: list[list[str]]) -> str:
    """Write a table."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|---|" + "---|" * (len(rows[0]) - 1), *lines[1:]]) + "\n"


def draw(rows: dict[str, dict[str, Estimate]], file: Path) -> None:
    """Draw differences to FPN with their intervals."""
    figure = Figure(figsize=(8, 1 + 0.28 * sum(len(own) for own in rows.values())), layout="constrained")
    axis = figure.subplots()
    labels, place = [], 0
    for key, own in rows.items():
        for name, estimate in own.items():
            pooled = name in ("chosen on", "judged on", "all")
            color = "tab:red" if name == "judged on" else "0.1" if pooled else "tab:blue"
            axis.errorbar(estimate.mean, -place, xerr=estimate.half, fmt="D" if pooled else "o", color=color, capsize=2)
            labels.append(f"{TITLES[key]}, {'pooled: ' + name if pooled else name}")
            place += 1
    axis.axvline(0, color="0.6", linewidth=0.8)
    axis.set_yticks([-i for i in range(place)], labels, fontsize=8)
    axis.set_xlabel("AP over FPN, 95 % interval over seeds and images")
    figure.savefig(file, dpi=110)


def main() -> None:
    """Write what there is."""
    text = "Written by `python experiments/census_tables.py`. In brackets: runs, or 95 % intervals.\n"
    for model in ("faster_rcnn_lite0", "retinanet_lite0"):
        found = load(model)
        if not found:
            continue
        to_fpn = differences(found, "fpn")
        text += f"\n## {model}, 8 epochs\n\n{markdown(ap_table(found))}"
        text += f"\nAP over FPN:\n\n{markdown(difference_table(to_fpn))}"
        if to_pafpn := {key: own for key, own in differences(found, "pafpn").items() if key == "drfpn"}:
            text += f"\nAP over PAFPN:\n\n{markdown(difference_table(to_pafpn))}"
        for epochs in sorted({folder.name.split("-")[-2] for folder in HERE.glob(f"*-{model}-*-epochs")}):
            others = load(model, f"-{epochs}-epochs")
            rows = {key: own for key, own in differences(found, "fpn", others).items() if key == "drfpn"}
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
