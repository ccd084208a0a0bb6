"""The report of several runs beside each other."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from drfpn.utils.errors import UserError
from drfpn.utils.runs import name_runs
from drfpn.visualization.class_bars import save_class_bars
from drfpn.visualization.curves import save_compared_curves
from drfpn.visualization.report.html import figure, heading, paragraph, percent, table, write_page


def write_comparison(runs: Sequence[Path], file: Path) -> Path:
    """Write one HTML file about several run folders: what differs, COCO's numbers, curves, classes and cost.

    Args:
        runs: run folders; each must be finished.
        file: the page.

    Raises:
        UserError: a folder that is no finished run, or two of one name and parent.
    """
    names = name_runs(runs)
    metrics = {name: json.loads(_read(run / "metrics.json", run)) for name, run in zip(names, runs, strict=True)}
    settings = {name: yaml.safe_load(_read(run / "config.yaml", run)) for name, run in zip(names, runs, strict=True)}
    logs = {
        name: [json.loads(line) for line in _read(run / "log.jsonl", run).splitlines()]
        for name, run in zip(names, runs, strict=True)
    }
    body = [*_differences(settings), heading("COCO's numbers, %"), *_numbers(metrics), heading("Training")]
    with tempfile.TemporaryDirectory() as folder:
        curves, bars = Path(folder) / "curves.png", Path(folder) / "bars.png"
        save_compared_curves(logs, curves)
        body.append(figure(curves, "Mean loss of each epoch, and AP on the validation split."))
        by_class = {name: {k: v["AP"] for k, v in m["per_class"].items()} for name, m in metrics.items()}
        if len({tuple(sorted(classes)) for classes in by_class.values()}) == 1:
            save_class_bars(by_class, bars)
            body += [heading("By class"), figure(bars, "AP of boxes by class.")]
        else:
            body.append(paragraph("The runs have different classes, so these are not compared."))
    body += [*_costs(metrics, logs)]
    return write_page(file, " and ".join(names) if len(names) < 4 else f"{len(names)} runs", body)


def _read(file: Path, run: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{run} is not the folder of a finished run: {file.name} cannot be read.") from error


def _differences(settings: Mapping[str, Mapping[str, Any]]) -> list[str]:
    first = next(iter(settings.values()))
    keys = [key for key in first if len({repr(of.get(key)) for of in settings.values()}) > 1]
    rows = [[key, *(str(of.get(key, "-")) for of in settings.values())] for key in keys]
    lines = [heading("What differs")]
    if not rows:
        return [*lines, paragraph("Nothing: the runs have the same settings.")]
    lines.append(table([["setting", *settings], *rows]))
    if {"data", "val_split"} & set(keys):
        lines.append(paragraph("The runs were measured on different images: their numbers do not compare."))
    elif not {"seed"} & set(keys):
        lines.append(
            paragraph(
                "One run each does not tell settings apart from chance: runs that differ in the seed alone differ too, "
                "on small data sets by a point of AP and more. 'drfpn ablate' compares pyramids over seeds."
            )
        )
    return lines


def _numbers(metrics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = []
    for kind, title in (("box", "Boxes:"), ("mask", "Masks:")):
        measured = {name: of for name, of in metrics.items() if of.get(kind)}
        if not measured:
            continue
        numbers = next(iter(measured.values()))[kind]
        rows = [
            [name, *(percent(of[kind][key]) for key in numbers), _interval(of, kind)] for name, of in measured.items()
        ]
        lines += [paragraph(title), table([["run", *numbers, "AP with other images (95 %)"], *rows])]
    return lines


def _interval(metrics: Mapping[str, Any], kind: str) -> str:
    details = (metrics.get("analysis") or {}).get(kind)
    if not details or details["interval"] is None:
        return "-"
    return " to ".join(percent(value) for value in details["interval"])


def _costs(metrics: Mapping[str, Mapping[str, Any]], logs: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    rows = [
        ["run", "parameters, M", "of these in the pyramid", "multiply-adds, G", "of these in the pyramid", "minutes"]
    ]
    for name, of in metrics.items():
        cost, minutes = of.get("cost"), f"{sum(row['seconds'] for row in logs[name]) / 60:.1f}"
        counts = ["-"] * 4
        if cost is not None:
            values = (cost["params"] / 1e6, cost["neck_params"] / 1e6, cost["macs"] / 1e9, cost["neck_macs"] / 1e9)
            counts = [f"{value:.2f}" for value in values]
        rows.append([name, *counts, minutes])
    return [
        heading("Cost"),
        table(rows),
        paragraph("Minutes are of training; they depend on what else the machine did."),
    ]
