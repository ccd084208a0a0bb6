"""``drfpn eval``: COCO metrics of a detector or of a results file."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drfpn.cli.common import Data, Device, Json, OnBad, choose_device, loader_workers, print_json, print_metrics
from drfpn.utils.errors import UsageError, UserError

if TYPE_CHECKING:
    from drfpn.data import DetectionDataset


def evaluate(
    run: Annotated[
        Path,
        typer.Argument(
            help="Run folder, weights (.safetensors), exported detector (.onnx, .xml, .pt2) or COCO results (.json)."
        ),
    ],
    data: Data,
    split: Annotated[str, typer.Option(help="Split to evaluate on.")] = "val",
    out: Annotated[Path | None, typer.Option(help="COCO results file to write; a folder for --format-only.")] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Folder for confusion matrix, curves, thresholds, error types and interval of AP."),
    ] = None,
    resamples: Annotated[int, typer.Option(min=0, help="Bootstrap resamples of the images for the interval.")] = 200,
    format_only: Annotated[
        bool, typer.Option("--format-only", help="Write a zip for the COCO server to --out; do not evaluate.")
    ] = False,
    name: Annotated[str, typer.Option(help="Name of the detector in the zip.")] = "drfpn",
    on_bad: OnBad = "error",
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Evaluate a detector or a file of detections with the COCO metrics."""
    from drfpn.evaluation import evaluate_results
    from drfpn.utils.io import write_json
    from drfpn.visualization.report.analysis import write_analysis

    if format_only and out is None:
        raise UsageError("--format-only needs --out FOLDER for the zip.")
    dataset, results, masks = _detections(run, data, split, on_bad, device, format_only=format_only)
    truth = dataset.ground_truth()
    if format_only:
        assert out is not None
        _format(out, results, truth, split, name, json=json)
        return
    if out is not None:
        write_json(out, results)
    metrics = evaluate_results(truth, results, split=split, masks=masks)
    if report is not None:
        report.mkdir(parents=True, exist_ok=True)
        write_json(report / "metrics.json", metrics.model_dump())
        write_analysis(truth, results, report, masks=masks, resamples=resamples)
    if json:
        print_json(metrics.model_dump())
    else:
        print_metrics(metrics)


def _detections(
    run: Path, data: str, split: str, on_bad: str, device: str, *, format_only: bool
) -> "tuple[DetectionDataset, list[dict[str, Any]], bool]":
    """Return the data set, the detections of a detector or a results file on it, and whether they have masks.

    Args:
        run: run folder, weights, exported detector or COCO results.
        data: name of the data set.
        split: split of the data set.
        on_bad: treatment of invalid boxes.
        device: name of the device.
        format_only: whether the detections are for the COCO server, so that the split needs no annotations.
    """
    from drfpn.data import open_dataset
    from drfpn.evaluation import detect
    from drfpn.evaluation.results import check_results, read_results
    from drfpn.utils.console import say

    options: dict[str, Any] = {"on_bad": on_bad, "warn": say}
    if run.suffix == ".json":
        results = read_results(run)
        masks = any(isinstance(row, dict) and "segmentation" in row for row in results)
        dataset = open_dataset(data, split, masks=masks and not format_only, **options)
        return dataset, check_results(run, results, dataset.ground_truth(), masks=masks), masks
    target_device = choose_device(device)
    model, classes, masks = _load(run, target_device)
    dataset = open_dataset(data, split, masks=masks and not format_only, **options)
    if dataset.classes != classes:
        raise UserError(f"{run} has the classes {', '.join(classes)}, but {data} has {', '.join(dataset.classes)}.")
    workers = loader_workers(target_device)
    results = detect(model, dataset, category_ids=dataset.category_ids, workers=workers, device=target_device)
    if format_only:
        results = check_results(run, results, dataset.ground_truth(), masks=masks)
    return dataset, results, masks


def _load(run: Path, device: Any) -> tuple[Any, tuple[str, ...], bool]:
    """Return a detector, PyTorch's or exported, its classes, and whether it predicts masks."""
    from drfpn.export import is_exported_file, load_exported
    from drfpn.training import load_detector

    if is_exported_file(run):
        exported = load_exported(run)
        return exported, exported.classes, exported.masks
    model, card = load_detector(run)
    return model.to(device), card.classes, card.config.masks


def _format(
    folder: Path, results: list[dict[str, Any]], truth: Mapping[str, Any], split: str, name: str, *, json: bool
) -> None:
    from drfpn.evaluation.submission import write_submission
    from drfpn.utils.console import say

    images = {image["id"] for image in truth["images"]}
    without = len(images - {row["image_id"] for row in results})
    if without:
        say(f"{without} of {len(images)} images have no detections")
    files = [str(file) for file in write_submission(folder, results, split=split, name=name)]
    if json:
        print_json({"files": files, "detections": len(results), "images": len(images), "without": without})
    else:
        typer.echo("\n".join(files))
