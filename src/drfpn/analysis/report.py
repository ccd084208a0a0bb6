"""The report of a run: one HTML file that needs nothing else."""

import base64
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; } td, th { padding: .3rem .8rem; border-bottom: 1px solid #ddd; }
td + td, th + th { text-align: right; } img { max-width: 100%; } pre { background: #f5f5f5; padding: 1rem; }
figure { margin: 1rem 0; } figcaption { color: #555; font-size: .9rem; }
"""


def write_report(run: Path) -> Path:
    """Write ``report.html`` of a run folder from its settings, log, numbers and pictures."""
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    config = (run / "config.yaml").read_text(encoding="utf-8")
    log = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines() if line]
    seconds = sum(row["seconds"] for row in log)
    kinds = [("boxes", "box", "per_class")]
    if metrics.get("mask"):  # of runs with masks only
        kinds.append(("masks", "mask", "mask_per_class"))
    best = max((row for row in log if "AP" in row), key=lambda row: row["AP"])
    pictures = [_figure(file, file.stem) for file in sorted((run / "pictures").glob("*.jpg"))]
    body = [
        f"<h1>{html.escape(run.name)}</h1>",
        f"<p>{len(log)} epochs in {seconds / 60:.1f} minutes of training; measured on {metrics['images']} images of "
        f"the split '{html.escape(metrics['split'])}' with {html.escape(metrics['engine'])}. The best AP was "
        f"{100 * best['AP']:.1f} % after epoch {best['epoch']}; the numbers below are those of the last epoch.</p>",
        "<h2>COCO's numbers, %</h2>",
        _table([["of", *metrics["box"]], *([of, *map(_percent, metrics[key].values())] for of, key, _ in kinds)]),
        "<p>AP is the mean over IoU thresholds 0.50 to 0.95; s, m and l are objects under 32&sup2;, under 96&sup2; "
        "and above, in square pixels; AR is recall with at most 1, 10 or 100 detections an image.</p>",
        "<h2>By class, %</h2>",
        _table(
            [
                ["class", *(f"{number} of {of}" for of, _, _ in kinds for number in ("AP", "AP50"))],
                *(
                    [name, *(_percent(metrics[key][name][number]) for _, _, key in kinds for number in ("AP", "AP50"))]
                    for name in metrics["per_class"]
                ),
            ]
        ),
        *_analysis(metrics.get("analysis"), run / "analysis"),
        "<h2>Training</h2>",
        _figure(run / "curves.png", "mean loss of each epoch with its terms, and AP on the validation split"),
        "<h2>What it finds</h2>",
        "<p>Left what is annotated, right what the detector found, with its score from 0 to 1.</p>",
        *pictures,
        "<h2>Settings</h2>",
        f"<pre>{html.escape(config)}</pre>",
    ]
    page = f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{html.escape(run.name)}</title>"
    file = run / "report.html"
    file.write_text(f"{page}<style>{_STYLE}</style>\n" + "\n".join(body) + "</html>\n", encoding="utf-8")
    return file


def _analysis(analysis: Mapping[str, Any] | None, pictures: Path) -> list[str]:
    """Return intervals, thresholds and pictures of what lies behind AP, where it is known."""
    if analysis is None:
        return []
    lines = ["<h2>Behind the numbers</h2>"]
    for of, details in (("boxes", analysis["box"]), ("masks", analysis.get("mask"))):
        if details is None:
            continue
        if details["interval"] is not None:
            low, high = details["interval"]
            lines.append(
                f"<p>AP of {of} is {_percent(details['ap'])} %, {_percent(low)} to {_percent(high)} % in 95 % of "
                f"{analysis['resamples']} resamples of the images.</p>"
            )
        keys = ("score", "precision", "recall", "f1")
        rows = [
            [name, *(f"{found[key]:.2f}" for key in keys)] if found else [name, *("-" for _ in keys)]
            for name, found in details["thresholds"].items()
        ]
        lines += [f"<p>The score with the best F1 at IoU 0.5, {of}:</p>", _table([["class", *keys], *rows])]
    return lines + [_figure(file, file.stem.replace("_", " ")) for file in sorted(pictures.glob("*.png"))]


def _percent(value: float) -> str:
    return "-" if value < 0 else f"{100 * value:.1f}"


def _table(rows: Iterable[Sequence[str]]) -> str:
    head, *others = rows
    cells = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    lines = ["<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in others]
    return f"<table><tr>{cells}</tr>{''.join(lines)}</table>"


def _figure(file: Path, caption: str) -> str:
    kind = "png" if file.suffix == ".png" else "jpeg"
    data = base64.b64encode(file.read_bytes()).decode()
    text = html.escape(caption)
    return f"<figure><img alt='{text}' src='data:image/{kind};base64,{data}'><figcaption>{text}</figcaption></figure>"
