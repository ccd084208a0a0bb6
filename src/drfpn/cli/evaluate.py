"""``drfpn eval``: COCO metrics of a detector or of a results file."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drfpn.cli.common import (
    Data,
    Device,
    Images,
    Json,
    OnBad,
    Overlap,
    Tile,
    TileFull,
    choose_device,
    loader_workers,
    print_json,
    print_metrics,
)
from drfpn.utils.errors import UsageError, UserError

if TYPE_CHECKING:
    from drfpn.data import DetectionDataset

logger = logging.getLogger(__name__)


def evaluate(
    run: Annotated[
        Path,
        typer.Argument(
            help="Run folder, weights (.safetensors), exported detector (.onnx, .xml, .pt2), COCO results (.json), or "
            "hf:USER/NAME[@REVISION] for a run on the Hugging Face Hub."
        ),
    ],
    data: Data,
    split: Annotated[str, typer.Option(help="Split to evaluate on.")] = "val",
    images: Images = None,
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
    crowd: Annotated[
        str | None,
        typer.Option(help="Crowds: 'ignore' or 'object'; default: as in the training, 'ignore' for results."),
    ] = None,
    tile: Tile = None,
    overlap: Overlap = 0.2,
    tile_full: TileFull = True,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Evaluate a detector or a file of detections with the COCO metrics.

    The results of drfpn predict are joined to the data set by the names of files and classes, in images.json and
    categories.json beside them; those of other tools by their ids.
    """
    from drfpn.evaluation import evaluate_results
    from drfpn.evaluation.joining import is_joined_by_name
    from drfpn.utils.hub import is_hub_name
    from drfpn.utils.io import make_folder, write_json
    from drfpn.visualization.report.analysis import write_analysis

    if format_only and out is None:
        raise UsageError("--format-only needs --out FOLDER for the zip.")
    if out is not None and is_joined_by_name(out):
        raise UsageError(f"--out {out} is beside the images.json of a prediction, which has other ids: choose another.")
    options: dict[str, Any] = {"on_bad": on_bad, "images": images, "crowd": crowd, "format_only": format_only}
    if is_hub_name(run) or run.suffix != ".json":
        tiling = {"tile": tile, "overlap": overlap, "full": tile_full}
        dataset, results, masks = _detect(run, data, split, device=device, tiling=tiling, **options)
    elif tile is not None:
        raise UsageError(f"--tile is for a detector, and {run} has the detections of one.")
    else:
        dataset, results, masks = _read_results(run, data, split, **options)
    truth = dataset.ground_truth()
    if format_only:
        assert out is not None
        _format(out, results, truth, split, name, json=json)
        return
    if out is not None:
        write_json(out, results)
    metrics = evaluate_results(truth, results, split=split, masks=masks)
    if report is not None:
        make_folder(report)
        write_json(report / "metrics.json", metrics.model_dump())
        write_analysis(truth, results, report, masks=masks, resamples=resamples)
    if json:
        print_json(metrics.model_dump())
    else:
        print_metrics(metrics)


def _read_results(
    file: Path, data: str, split: str, *, on_bad: str, images: str | None, crowd: str | None, format_only: bool
) -> "tuple[DetectionDataset, list[dict[str, Any]], bool]":
    """Return the data set, the detections of a results file on it, and whether they have masks.

    Args:
        file: COCO results.
        data: name of the data set.
        split: split of the data set.
        on_bad: treatment of invalid boxes.
        images: folder of the images, if it is not in its usual place.
        crowd: treatment of crowds.
        format_only: whether the detections are for the COCO server, so that the split needs no annotations.
    """
    from drfpn.data import open_dataset
    from drfpn.evaluation.joining import join_by_name
    from drfpn.evaluation.results import read_results

    results = read_results(file)
    masks = any(isinstance(row, dict) and row.get("segmentation") for row in results)
    options: dict[str, Any] = {"on_bad": on_bad, "images": images, "crowd": crowd or "ignore", "warn": logger.warning}
    dataset = open_dataset(data, split, masks=masks and not format_only, **options)
    results = join_by_name(file, results, dataset, split, warn=logger.warning)
    return dataset, _checked_results(file, results, dataset.ground_truth(), masks=masks), masks


def _detect(
    run: Path,
    data: str,
    split: str,
    *,
    on_bad: str,
    images: str | None,
    crowd: str | None,
    format_only: bool,
    device: str,
    tiling: Mapping[str, Any],
) -> "tuple[DetectionDataset, list[dict[str, Any]], bool]":
    """Return the data set, the detections of a detector on it, and whether they have masks.

    Args:
        run: run folder, weights or exported detector.
        data: name of the data set.
        split: split of the data set.
        on_bad: treatment of invalid boxes.
        images: folder of the images, if it is not in its usual place.
        crowd: treatment of crowds; ``None`` for that in the training.
        format_only: whether the detections are for the COCO server, so that the split needs no annotations.
        device: name of the device.
        tiling: arguments of ``TiledDetector``; a ``tile`` of ``None`` to detect in whole images.
    """
    from drfpn.data import open_dataset
    from drfpn.evaluation import detect
    from drfpn.evaluation.results import check_results
    from drfpn.inference.tiling import TiledDetector

    target_device = choose_device(device)
    model, classes, masks, trained_crowd = _load(run, target_device)
    options: dict[str, Any] = {"workers": loader_workers(target_device), "device": target_device}
    if tiling["tile"] is not None:
        model = TiledDetector(model, **tiling)
        options["batch_size"] = 1  # images are large, and their tiles fill a batch
    reading: dict[str, Any] = {"on_bad": on_bad, "images": images, "crowd": crowd or trained_crowd, "classes": classes}
    dataset = open_dataset(data, split, masks=masks and not format_only, warn=logger.warning, **reading)
    results = detect(model, dataset, category_ids=dataset.category_ids, **options)
    if format_only:
        results = check_results(run, results, dataset.ground_truth(), masks=masks)
    return dataset, results, masks


def _checked_results(file: Path, results: list[Any], truth: Mapping[str, Any], *, masks: bool) -> list[dict[str, Any]]:
    """Return checked detections, with a warning if they seem to be misread.

    Raises:
        UserError: an entry is invalid, or right results never look like these.
    """
    from drfpn.evaluation.misreadings import find_misreadings
    from drfpn.evaluation.results import check_results
    from drfpn.utils.console import say

    checked = check_results(file, results, truth, masks=masks)
    if not checked:
        say(f"{file} has no detections")
    misreadings = find_misreadings(checked, truth)
    certain = next((reading for reading in misreadings if reading.certain), None)
    if certain is not None:
        raise UserError(f"{file}: {certain.text}.")
    for reading in misreadings:
        say(f"{file}: {reading.text}.")
    return checked


def _load(run: Path, device: Any) -> tuple[Any, tuple[str, ...], bool, str]:
    """Return a detector, PyTorch's or exported, its classes, whether it predicts masks, and ``crowd`` in its training.

    The last is not known of exported detectors, and ``"ignore"``.
    """
    from drfpn.export import is_exported_file, load_exported
    from drfpn.training import load_detector
    from drfpn.utils.runs import locate_run

    path = locate_run(run)
    if is_exported_file(path):
        exported = load_exported(path)
        return exported, exported.classes, exported.masks, "ignore"
    model, card = load_detector(run)
    return model.to(device), card.classes, card.config.masks, card.config.crowd


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
