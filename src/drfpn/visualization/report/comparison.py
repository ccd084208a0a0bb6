"""HTML report that compares several runs: settings, COCO metrics, training curves, classes and cost."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from drfpn.evaluation.metrics import read_metrics
from drfpn.utils.aliases import SETTINGS, rename_keys
from drfpn.utils.errors import UserError
from drfpn.utils.formatting import percent
from drfpn.utils.runs import name_runs
from drfpn.visualization.class_bars import save_class_bars
from drfpn.visualization.curves import save_compared_training_curves
from drfpn.visualization.report.html import figure, heading, paragraph, table, write_page


def write_comparison(runs: Sequence[Path], file: Path) -> Path:
    """Write an HTML page that compares run folders.

    Args:
        runs: folders of finished runs.
        file: the page.

    Raises:
        UserError: a folder is not that of a finished run, or two have the same name and parent.
    """
    names = name_runs(runs)
    metrics = {name: read_metrics(_read(run / "metrics.json", run)) for name, run in zip(names, runs, strict=True)}
    settings = {
        name: rename_keys(yaml.safe_load(_read(run / "config.yaml", run)), SETTINGS)
        for name, run in zip(names, runs, strict=True)
    }
    logs = {
        name: [json.loads(line) for line in _read(run / "log.jsonl", run).splitlines()]
        for name, run in zip(names, runs, strict=True)
    }
    body = [*_settings(settings), heading("COCO metrics, %"), *_metrics(metrics), heading("Training")]
    with tempfile.TemporaryDirectory() as folder:
        curves, bars = Path(folder) / "curves.png", Path(folder) / "bars.png"
        save_compared_training_curves(logs, curves)
        body.append(figure(curves, "Mean loss of each epoch, and AP on the validation split."))
        by_class = {name: {k: v["AP"] for k, v in m["per_class"].items()} for name, m in metrics.items()}
        if len({tuple(sorted(classes)) for classes in by_class.values()}) == 1:
            save_class_bars(by_class, bars)
            body += [heading("By class"), figure(bars, "AP of boxes by class.")]
        else:
            body.append(paragraph("The runs have different classes, so AP by class is not compared."))
    body += [*_costs(metrics, logs)]
    return write_page(file, " and ".join(names) if len(names) < 4 else f"{len(names)} runs", body)


def _read(file: Path, run: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{run} is not the folder of a finished run: {file.name} cannot be read.") from error


def _settings(settings: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a table of the settings that differ."""
    first = next(iter(settings.values()))
    keys = [key for key in first if len({repr(of.get(key)) for of in settings.values()}) > 1]
    rows = [[key, *(str(of.get(key, "-")) for of in settings.values())] for key in keys]
    lines = [heading("Different settings")]
    if not rows:
        return [*lines, paragraph("None: the runs have the same settings.")]
    lines.append(table([["setting", *settings], *rows]))
    if {"data", "val_split"} & set(keys):
        lines.append(paragraph("The runs were evaluated on different images: their metrics are not comparable."))
    elif not {"seed"} & set(keys):
        lines.append(
            paragraph(
                "With one run each, the effect of settings cannot be distinguished from chance: runs that differ only "
                "in the seed differ too, on small data sets by one point of AP and more. 'drfpn ablate' compares necks "
                "over several seeds."
            )
        )
    return lines


def _metrics(metrics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = []
    for key, title in (("box", "Boxes:"), ("mask", "Masks:")):
        evaluated = {name: of for name, of in metrics.items() if of.get(key)}
        if not evaluated:
            continue
        columns = next(iter(evaluated.values()))[key]
        rows = [
            [name, *(percent(of[key][column]) for column in columns), _interval(of, key)]
            for name, of in evaluated.items()
        ]
        lines += [paragraph(title), table([["run", *columns, "95 % interval of AP over images"], *rows])]
    return lines


def _interval(metrics: Mapping[str, Any], key: str) -> str:
    details = (metrics.get("analysis") or {}).get(key)
    if not details or details["interval"] is None:
        return "-"
    return " to ".join(percent(value) for value in details["interval"])


def _costs(metrics: Mapping[str, Mapping[str, Any]], logs: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    rows = [["run", "parameters, M", "of these in the neck", "multiply-adds, G", "of these in the neck", "minutes"]]
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
        paragraph("Minutes are those of training and depend on the load of the machine."),
    ]
