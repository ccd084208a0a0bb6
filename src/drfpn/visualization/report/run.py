"""The report of a run: one HTML file for somebody who was not there."""

import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drfpn.utils.errors import UserError
from drfpn.visualization.class_bars import save_class_bars
from drfpn.visualization.report.html import figure, heading, paragraph, percent, table, write_page

PICTURES = {
    "confusion": "Each row is what was annotated, each column what was found; the last of each is background: objects "
    "that were missed, and detections where there is nothing.",
    "precision_recall_box": "Of boxes: the share of detections that are right, while the score that counts is lowered "
    "until more and more of the objects are found.",
    "precision_recall_mask": "The same of masks.",
    "errors_box": "Of boxes, what AP50 would gain were one kind of error mended: Cls the wrong class, Loc a box that "
    "is off, Both, Dupe an object found twice, Bkg found where there is nothing, Miss not found; FP and FN all of one "
    "side.",
    "errors_mask": "The same of masks.",
}
"""What the pictures of an evaluation show."""


def write_report(run: Path) -> Path:
    """Write ``report.html`` of a run folder from its settings, log, numbers and pictures.

    Raises:
        UserError: it is no finished run.
    """
    try:
        metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
        config = (run / "config.yaml").read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"{run} is not the folder of a finished run: {error}") from error
    if "cost" not in metrics:
        raise UserError(f"{run} is not finished: 'drfpn train --resume --out {run}' does what is missing.")
    log = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines() if line]
    (run / "analysis").mkdir(exist_ok=True)
    body = [
        *_about(run, metrics, log, config),
        heading("COCO's numbers, %"),
        *_numbers(metrics),
        heading("By class"),
        *_classes(run, metrics),
        *_analysis(metrics.get("analysis"), run / "analysis"),
        *_pyramid(metrics.get("pyramid"), run / "analysis"),
        heading("Training"),
        figure(run / "curves.png", "Mean loss of each epoch with its terms, and AP on the validation split."),
        *_examples(metrics["examples"], run / "pictures"),
        heading("Settings"),
        f"<pre>{html.escape(config)}</pre>",
    ]
    return write_page(run / "report.html", run.name, body)


def _about(run: Path, metrics: Mapping[str, Any], log: list[dict[str, Any]], config: str) -> list[str]:
    """Say what was trained on what, how it went and what it costs."""
    settings = dict(line.split(": ", 1) for line in config.splitlines() if ": " in line and line[0] != " ")
    splits = [f"{d['images']} images with {d['objects']} objects ('{name}')" for name, d in metrics["data"].items()]
    seconds = sum(row["seconds"] for row in log)
    best = max((row for row in log if "AP" in row), key=lambda row: row["AP"])
    lines = [
        paragraph(
            f"{settings['model']}, trained on {splits[0]} and measured on {splits[-1]} of "
            f"{Path(settings['data']).name}. A detector finds objects in an image: a box, a class and a score from 0 "
            "to 1 for each."
        )
    ]
    lines.append(
        paragraph(
            f"{len(log)} epochs in {seconds / 60:.1f} minutes of training; measured on {metrics['images']} images of "
            f"the split '{metrics['split']}' with {metrics['engine']}. The best AP was {100 * best['AP']:.1f} % after "
            f"epoch {best['epoch']}; the numbers below are those of the last epoch."
        )
    )
    cost = metrics["cost"]
    lines.append(
        paragraph(
            f"It has {cost['params'] / 1e6:.2f} million parameters, {cost['neck_params'] / 1e6:.2f} of them in the "
            f"pyramid, and takes {cost['macs'] / 1e9:.2f} billion multiply-adds for an image of {cost['width']} x "
            f"{cost['height']} pixels, {cost['neck_macs'] / 1e9:.2f} of them in the pyramid."
        )
    )
    return lines


def _kinds(metrics: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return of boxes and, where there are some, of masks: their name and the keys of their numbers."""
    masks = [("masks", "mask", "mask_per_class")] if metrics.get("mask") else []
    return [("boxes", "box", "per_class"), *masks]


def _numbers(metrics: Mapping[str, Any]) -> list[str]:
    rows = [[of, *map(percent, metrics[key].values())] for of, key, _ in _kinds(metrics)]
    return [
        table([["of", *metrics["box"]], *rows]),
        paragraph(
            "AP, average precision, is 100 % where everything is found and nothing else. It is the mean over IoU "
            "thresholds 0.50 to 0.95, how far a box must overlap the annotated one; AP50 and AP75 are those of 0.50 "
            "and 0.75. s, m and l are objects under 32², under 96² and above, in square pixels; AR is the share of "
            "objects that is found with at most 1, 10 or 100 detections an image."
        ),
    ]


def _classes(run: Path, metrics: Mapping[str, Any]) -> list[str]:
    lines = []
    for of, kind, key in _kinds(metrics):
        file = run / f"analysis/classes_{kind}.png"
        save_class_bars({run.name: {name: numbers["AP"] for name, numbers in metrics[key].items()}}, file)
        lines.append(figure(file, f"AP of {of} by class."))
    heads = ["class", *(f"{number} of {of}" for of, _, _ in _kinds(metrics) for number in ("AP", "AP50"))]
    rows = [
        [name, *(percent(metrics[key][name][number]) for _, _, key in _kinds(metrics) for number in ("AP", "AP50"))]
        for name in metrics["per_class"]
    ]
    return [*lines, table([heads, *rows])]


def _analysis(analysis: Mapping[str, Any] | None, pictures: Path) -> list[str]:
    """Return intervals, thresholds and pictures of what lies behind AP, where it is known."""
    if analysis is None:
        return []
    lines = [heading("Behind the numbers")]
    for of, details in (("boxes", analysis["box"]), ("masks", analysis.get("mask"))):
        if details is None:
            continue
        if details["interval"] is not None:
            low, high = details["interval"]
            lines.append(
                paragraph(
                    f"AP of {of} is {percent(details['ap'])} %, {percent(low)} to {percent(high)} % in 95 % of "
                    f"{analysis['resamples']} resamples of the images: so far it may move with other images of the "
                    "same kind."
                )
            )
        keys = ("score", "precision", "recall", "f1")
        rows = [
            [name, *(f"{found[key]:.2f}" for key in keys)] if found else [name, *("-" for _ in keys)]
            for name, found in details["thresholds"].items()
        ]
        lines.append(paragraph(f"The score from which on detections are best taken (highest F1 at IoU 0.5), {of}:"))
        lines.append(table([["class", *keys], *rows]))
    files = ((pictures / f"{name}.png", caption) for name, caption in PICTURES.items())
    return lines + [figure(file, caption) for file, caption in files if file.exists()]


def _pyramid(panels: Mapping[str, Any] | None, pictures: Path) -> list[str]:
    """Return what flows inside of the pyramid, where that was drawn."""
    if panels is None:
        return []
    lines = [
        heading("Inside of the pyramid"),
        paragraph(
            "The pyramid joins maps of several resolutions: level 2 has a value for every 4th pixel, level 3 for every "
            "8th, and so on; each finds objects of its size."
        ),
        figure(
            pictures / "levels.png",
            f"Image {panels['image']}: each level as it leaves the pyramid, mean over channels.",
        ),
    ]
    spatial = (
        "Where the spatial refinement block reads the coarser map for a pixel of the finer one, how far that is from "
        "the plain grid, and how much what it reads counts."
    )
    channels = f"How the channel refinement block weighs the channels, over {panels['images']} images."
    for file, caption, verdicts in (
        ("offsets.png", spatial, panels["offsets"] + panels["weights"]),
        ("gates.png", channels, panels["gates"]),
    ):
        if verdicts:
            lines.append(figure(pictures / file, caption))
            lines.append(
                table([["levels", "in words"], *([verdict["pair"], verdict["words"]] for verdict in verdicts)])
            )
    return lines


def _examples(examples: list[dict[str, Any]], pictures: Path) -> list[str]:
    lines = []
    for kind, title in (("best", "Where it does best"), ("worst", "Where it does worst")):
        chosen = [example for example in examples if example["kind"] == kind and (pictures / example["file"]).exists()]
        if chosen:
            lines.append(heading(title))
            lines.append(paragraph("Left what is annotated, right what the detector found, with its score."))
        for example in chosen:
            counts = (
                f"{example['right']} found, {example['missed']} missed, {example['false']} found where there is none"
            )
            lines.append(figure(pictures / example["file"], f"{Path(example['file']).stem}: {counts}"))
    return lines
