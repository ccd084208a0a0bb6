"""``drfpn eval``."""

import json as json_module
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from drfpn.cli.common import Data, Device, Json, choose_device, print_json, print_metrics, reading_processes
from drfpn.utils.errors import UserError


def evaluate(
    run: Annotated[
        Path,
        typer.Argument(
            help="Run folder, weights (.safetensors), exported file (.onnx, .xml, .pt2) or COCO results (.json)."
        ),
    ],
    data: Data,
    split: Annotated[str, typer.Option(help="Split to measure on.")] = "val",
    out: Annotated[
        Path | None, typer.Option(help="Also write the detections as a COCO results file; a folder for --format-only.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Folder for confusions, curves, thresholds, errors and an interval of AP.")
    ] = None,
    resamples: Annotated[int, typer.Option(min=0, help="Resamples of the images for that interval.")] = 200,
    format_only: Annotated[
        bool, typer.Option("--format-only", help="Write a zip for COCO's server into --out; measure nothing.")
    ] = False,
    name: Annotated[str, typer.Option(help="Name of the detector in that zip.")] = "drfpn",
    on_bad: Annotated[str, typer.Option(help="Boxes that cannot be: 'error', 'skip' or 'fix'.")] = "error",
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Measure a trained detector, or a file of detections, with COCO's numbers."""
    from drfpn.data import open_dataset
    from drfpn.evaluation import detect, score
    from drfpn.evaluation.results import check_results, read_results
    from drfpn.utils.console import say
    from drfpn.utils.io import write_json

    if format_only and out is None:
        raise UserError("--format-only needs --out FOLDER for the zip.", exit_code=2)
    opened: dict[str, Any] = {"on_bad": on_bad, "warn": say}
    results: list[dict[str, Any]]
    if run.suffix == ".json":
        results = read_results(run)
        masks = any(isinstance(row, dict) and "segmentation" in row for row in results)
        dataset = open_dataset(data, split, masks=masks and not format_only, **opened)
        results = check_results(run, results, dataset.ground_truth(), masks=masks)
    else:
        where = choose_device(device)
        model, classes, masks = _load(run, where)
        dataset = open_dataset(data, split, masks=masks and not format_only, **opened)
        if dataset.classes != classes:
            raise UserError(
                f"{run} knows the classes {', '.join(classes)}, but {data} has {', '.join(dataset.classes)}."
            )
        readers = reading_processes(where)
        results = detect(model, dataset, category_ids=dataset.category_ids, workers=readers, device=where)
        if format_only:
            results = check_results(run, results, dataset.ground_truth(), masks=masks)
    truth = dataset.ground_truth()
    if format_only:
        assert out is not None
        _format(out, results, truth, split, name, json=json)
        return
    if out is not None:
        write_json(out, results)
    metrics = score(truth, results, split=split, masks=masks)
    if report is not None:
        report.mkdir(parents=True, exist_ok=True)
        write_json(report / "metrics.json", metrics.model_dump())
        write_analysis(truth, results, report, masks=masks, resamples=resamples)
    if json:
        print_json(metrics.model_dump())
    else:
        print_metrics(metrics)


def _load(run: Path, device: Any) -> tuple[Any, tuple[str, ...], bool]:
    """Return a detector or an exported one, the classes it knows, and whether it gives masks."""
    from drfpn.export import is_exported, load_exported
    from drfpn.training import load_detector

    if is_exported(run):
        exported = load_exported(run)
        return exported, exported.classes, exported.masks
    model, card = load_detector(run)
    return model.to(device), card.classes, card.config.masks


def write_analysis(
    truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    folder: Path,
    *,
    masks: bool | None = None,
    resamples: int = 200,
) -> None:
    """Add what lies behind AP to ``metrics.json`` of a folder, under "analysis", and draw it into ``analysis/``."""
    from drfpn.evaluation import analyze
    from drfpn.utils.io import write_json
    from drfpn.visualization import save_evaluation

    analysis = analyze(truth, results, masks=masks, resamples=resamples)
    file = folder / "metrics.json"
    metrics = json_module.loads(file.read_text(encoding="utf-8"))
    write_json(file, metrics | {"analysis": analysis.model_dump()})
    save_evaluation(analysis, folder / "analysis")


def _format(
    folder: Path, results: list[dict[str, Any]], truth: Mapping[str, Any], split: str, name: str, *, json: bool
) -> None:
    from drfpn.evaluation.submission import write_submission
    from drfpn.utils.console import say

    images = {image["id"] for image in truth["images"]}
    without = len(images - {row["image_id"] for row in results})
    if without:
        say(f"{without} of {len(images)} images have no detection")
    files = [str(file) for file in write_submission(folder, results, split=split, name=name)]
    if json:
        print_json({"files": files, "detections": len(results), "images": len(images), "without": without})
    else:
        typer.echo("\n".join(files))
