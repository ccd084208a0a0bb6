"""``drfpn eval``."""

import json as json_module
from pathlib import Path
from typing import Annotated, Any

import typer

from drfpn.cli.common import Data, Device, Json, choose_device, print_json, print_metrics
from drfpn.errors import UserError


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder, weights (.safetensors) or COCO results (.json).")],
    data: Data,
    split: Annotated[str, typer.Option(help="Split to measure on.")] = "val",
    out: Annotated[Path | None, typer.Option(help="Also write the detections as a COCO results file.")] = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Measure a trained detector, or a file of detections, with COCO's numbers."""
    from drfpn.data import open_dataset
    from drfpn.engine import detect, load_detector, score
    from drfpn.engine.checkpoint import write_json

    results: list[dict[str, Any]]
    if run.suffix == ".json":
        results = _read_list(run)
        masks = any(isinstance(row, dict) and "segmentation" in row for row in results)
        dataset = open_dataset(data, split, masks=masks)
        _check_results(run, results, dataset.ground_truth(), masks=masks)
    else:
        model, card = load_detector(run)
        masks = card.config.masks
        dataset = open_dataset(data, split, masks=masks)
        if dataset.classes != card.classes:
            raise UserError(
                f"{run} knows the classes {', '.join(card.classes)}, but {data} has {', '.join(dataset.classes)}."
            )
        where = choose_device(device)
        results = detect(model.to(where), dataset, category_ids=dataset.category_ids, device=where)
    if out is not None:
        write_json(out, results)
    metrics = score(dataset.ground_truth(), results, split=split, masks=masks)
    if json:
        print_json(metrics.model_dump())
    else:
        print_metrics(metrics)


def _read_list(file: Path) -> list[dict[str, Any]]:
    try:
        results = json_module.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"There is no file {file}.") from error
    except (OSError, UnicodeDecodeError, json_module.JSONDecodeError) as error:
        raise UserError(f"{file} is not JSON that can be read ({type(error).__name__}).") from error
    if not isinstance(results, list):
        raise UserError(f"{file} must hold a list of detections as COCO's results do, not {type(results).__name__}.")
    return results


def _check_results(file: Path, results: list[dict[str, Any]], truth: dict[str, Any], *, masks: bool) -> None:
    """Check that a COCO results file speaks of these images and classes, and that its masks fit them."""
    from drfpn.data.rle import rle_fault

    images = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    categories = {category["id"] for category in truth["categories"]}
    for i, row in enumerate(results):
        if not isinstance(row, dict) or not {"image_id", "category_id", "bbox", "score"} <= row.keys():
            raise UserError(f"{file}: entry {i} must have image_id, category_id, bbox and score.")
        if row["image_id"] not in images:
            raise UserError(f"{file}: entry {i} is about image {row['image_id']}, which this split does not have.")
        if row["category_id"] not in categories:
            raise UserError(f"{file}: entry {i} is of category {row['category_id']}, which this data does not have.")
        box = row["bbox"]
        if not isinstance(box, list) or len(box) != 4 or not all(isinstance(v, int | float) for v in box):
            raise UserError(f"{file}: the bbox of entry {i} must be 4 numbers (x, y, width, height), not {box!r}.")
        if masks:
            height, width = images[row["image_id"]]
            mask = row.get("segmentation")
            found = rle_fault(mask, height, width) if isinstance(mask, dict) else f"its segmentation is {mask!r:.60}"
            if found is not None:
                raise UserError(f"{file}: entry {i} must have RLE of size [{height}, {width}] as mask, but {found}.")
