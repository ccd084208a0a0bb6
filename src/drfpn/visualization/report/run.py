"""HTML report of one run: ``report.html``, a self-contained page for readers who did not train it."""

import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from drfpn.evaluation.metrics import read_metrics
from drfpn.utils.errors import UserError
from drfpn.utils.formatting import percent
from drfpn.visualization.class_bars import save_class_bars
from drfpn.visualization.report.html import figure, heading, paragraph, table, write_page

CAPTIONS = {
    "confusion": "Rows are classes of the ground truth, columns those of detections; the last row and column are "
    "background: false positives and missed objects.",
    "precision_recall_box": "Precision and recall of boxes as the confidence threshold is lowered.",
    "precision_recall_mask": "The same for masks.",
    "errors_box": "Gain of AP50 for boxes if all errors of a type were fixed: Cls wrong class, Loc wrong location, "
    "Both wrong class and location, Dupe duplicate detection, Bkg detection on the background, Miss missed object; FP "
    "and FN: all false positives and all false negatives.",
    "errors_mask": "The same for masks.",
}
"""Captions of the figures of an evaluation."""


def write_report(run: Path) -> Path:
    """Write ``report.html`` of a run folder from its settings, log, metrics and figures.

    Args:
        run: run folder.

    Raises:
        UserError: it is not the folder of a finished run.
    """
    try:
        metrics = read_metrics((run / "metrics.json").read_text(encoding="utf-8"))
        config = (run / "config.yaml").read_text(encoding="utf-8")
        settings = yaml.safe_load(config)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{run} is not the folder of a finished run: {error}") from error
    if "cost" not in metrics:
        raise UserError(f"{run} is not finished: resume its training first.")
    log = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines() if line]
    (run / "analysis").mkdir(exist_ok=True)
    body = [
        *_summary(metrics, log, settings),
        heading("COCO metrics, %"),
        *_metrics(metrics),
        heading("By class"),
        *_classes(run, metrics),
        *_analysis(metrics.get("analysis"), run / "analysis"),
        *_neck(metrics.get("neck"), run / "analysis"),
        heading("Training"),
        figure(run / "curves.png", "Mean loss of each epoch with its terms, and AP on the validation split."),
        *_examples(metrics["examples"], run / "pictures"),
        heading("Settings"),
        f"<pre>{html.escape(config)}</pre>",
    ]
    return write_page(run / "report.html", run.name, body)


def _summary(metrics: Mapping[str, Any], log: list[dict[str, Any]], settings: Mapping[str, Any]) -> list[str]:
    """Return paragraphs on data, training and cost."""
    splits = [f"{d['images']} images with {d['objects']} objects ('{name}')" for name, d in metrics["data"].items()]
    seconds = sum(row["seconds"] for row in log)
    evaluated = [row for row in log if row.get("AP") is not None]
    best = max(evaluated, key=lambda row: float(row["AP"]), default=None)
    of_best = "It has no objects, so AP is not defined."
    if best is not None:
        of_best = (
            f"The best AP was {percent(best['AP'])} % after epoch {best['epoch']}; the metrics below are those of the "
            "last epoch."
        )
    cost = metrics["cost"]
    return [
        paragraph(
            f"{settings['model']}, trained on {splits[0]} and evaluated on {splits[-1]} of "
            f"{Path(settings['data']).name}. A detector predicts objects in an image: a box, a class and a score "
            "from 0 to 1 for each."
        ),
        paragraph(
            f"{len(log)} epochs in {seconds / 60:.1f} minutes of training; evaluated on {metrics['images']} images of "
            f"the split '{metrics['split']}' with {metrics['backend']}. {of_best}"
        ),
        paragraph(
            f"It has {cost['params'] / 1e6:.2f} million parameters, {cost['neck_params'] / 1e6:.2f} of them in the "
            f"neck, and needs {cost['macs'] / 1e9:.2f} billion multiply-adds for an image of {cost['width']} x "
            f"{cost['height']} pixels, {cost['neck_macs'] / 1e9:.2f} of them in the neck."
        ),
    ]


def _box_and_mask(metrics: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return for boxes and, if there are some, for masks: a name and the keys of their metrics."""
    masks = [("masks", "mask", "mask_per_class")] if metrics.get("mask") else []
    return [("boxes", "box", "per_class"), *masks]


def _metrics(metrics: Mapping[str, Any]) -> list[str]:
    rows = [[of, *map(percent, metrics[key].values())] for of, key, _ in _box_and_mask(metrics)]
    return [
        table([["of", *metrics["box"]], *rows]),
        paragraph(
            "AP, average precision, is 100 % if all objects are detected and nothing else. It is the mean over the IoU "
            "thresholds 0.50 to 0.95, the overlap with the ground truth from which a detection counts as correct; AP50 "
            "and AP75 are those of 0.50 and 0.75. s, m and l are objects below 32², below 96² and larger, in square "
            "pixels; AR is the recall with at most 1, 10 or 100 detections per image."
        ),
    ]


def _classes(run: Path, metrics: Mapping[str, Any]) -> list[str]:
    lines = []
    for of, name, key in _box_and_mask(metrics):
        file = run / f"analysis/classes_{name}.png"
        save_class_bars({run.name: {label: numbers["AP"] for label, numbers in metrics[key].items()}}, file)
        lines.append(figure(file, f"AP of {of} by class."))
    columns = [(of, key, metric) for of, _, key in _box_and_mask(metrics) for metric in ("AP", "AP50")]
    header = ["class", *(f"{metric} of {of}" for of, _, metric in columns)]
    rows = [
        [label, *(percent(metrics[key][label][metric]) for _, key, metric in columns)] for label in metrics["per_class"]
    ]
    return [*lines, table([header, *rows])]


def _analysis(analysis: Mapping[str, Any] | None, folder: Path) -> list[str]:
    """Return intervals, thresholds and figures of the analysis, if there is one."""
    if analysis is None:
        return []
    lines = [heading("Analysis")]
    for of, details in (("boxes", analysis["box"]), ("masks", analysis.get("mask"))):
        if details is None:
            continue
        if details["interval"] is not None:
            low, high = details["interval"]
            lines.append(
                paragraph(
                    f"AP of {of} is {percent(details['ap'])} %, with a 95 % interval of {percent(low)} to "
                    f"{percent(high)} % over {analysis['resamples']} bootstrap resamples of the images: how much it "
                    "may change on other images of the same distribution."
                )
            )
        keys = ("score", "precision", "recall", "f1")
        rows = [
            [name, *(f"{threshold[key]:.2f}" for key in keys)] if threshold else [name, *("-" for _ in keys)]
            for name, threshold in details["thresholds"].items()
        ]
        lines.append(paragraph(f"Confidence threshold of each class with the highest F1 at IoU 0.5, {of}:"))
        lines.append(table([["class", *keys], *rows]))
    files = ((folder / f"{name}.png", caption) for name, caption in CAPTIONS.items())
    return lines + [figure(file, caption) for file, caption in files if file.exists()]


def _neck(neck: Mapping[str, Any] | None, folder: Path) -> list[str]:
    """Return the figures and diagnoses of the neck, if they were made."""
    if neck is None:
        return []
    lines = [
        heading("Feature maps of the neck"),
        paragraph(
            "The neck fuses feature maps of several resolutions: level 2 has a value for every 4th pixel, level 3 for "
            "every 8th, and so on; each is used for objects of a certain size."
        ),
        figure(folder / "levels.png", f"Image {neck['image']}: output levels of the neck, mean over channels."),
    ]
    srb = (
        "Spatial refinement block: where it samples the coarser map (offsets from the regular grid and their length), "
        "and omega, by which the sampled values are multiplied."
    )
    crb = f"Channel refinement block: gates, by which channels are multiplied, over {neck['images']} images."
    for name, caption, diagnoses in (
        ("offsets.png", srb, neck["offsets"] + neck["weights"]),
        ("gates.png", crb, neck["gates"]),
    ):
        if diagnoses:
            lines.append(figure(folder / name, caption))
            lines.append(table([["levels", "diagnosis"], *([row["pair"], row["words"]] for row in diagnoses)]))
    return lines


def _examples(examples: list[dict[str, Any]], folder: Path) -> list[str]:
    lines = []
    for kind, title in (("best", "Images with the best F1"), ("worst", "Images with the worst F1")):
        shown = [example for example in examples if example["kind"] == kind and (folder / example["file"]).exists()]
        if shown:
            lines.append(heading(title))
            lines.append(paragraph("Left: ground truth; right: detections with their scores."))
        for example in shown:
            counts = (
                f"{example['right']} true positives, {example['false']} false positives, "
                f"{example['missed']} missed objects"
            )
            lines.append(figure(folder / example["file"], f"{Path(example['file']).stem}: {counts}"))
    return lines
