"""``drfpn data``: checking, counting, showing and converting data sets."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drfpn.cli.common import DATA_HELP, Json, OnBad, Overrides, counting, print_json, print_rows
from drfpn.utils.errors import UsageError
from drfpn.utils.formatting import percent

if TYPE_CHECKING:
    from drfpn.data import Annotations, IssueSummary
    from drfpn.evaluation.anchor_recall import BestPossibleRecall

app = typer.Typer(help="Check, count, show and convert data sets.", no_args_is_help=True)

DataArgument = Annotated[str, typer.Argument(help=DATA_HELP, metavar="DATA")]


ModelOption = Annotated[
    str | None, typer.Option(help="Model; also count the objects that match none of its anchors or points.")
]
Scale = Annotated[str | None, typer.Option(help="Scale of the model: 'small' or 'paper'; default: by backbone.")]


@app.command("check")
def check(
    data: DataArgument, model: ModelOption = None, scale: Scale = None, override: Overrides = None, json: Json = False
) -> None:
    """List the problems of a data set; exit code 1 if training would fail on it."""
    from rich.console import Console
    from rich.table import Table

    from drfpn.data import check_dataset

    with counting("reading images") as advance:
        findings = check_dataset(data, progress=advance)
    errors = [finding for finding in findings if finding.severity == "error"]
    if model is not None and not errors:
        findings += _unmatched(model, data, scale, override)
    if json:
        from dataclasses import asdict

        print_json({"data": data, "ok": not errors, "findings": [asdict(finding) for finding in findings]})
    elif not findings:
        typer.echo(f"{data}: no problems")
    else:
        table = Table(title=data, title_justify="left", show_lines=True)
        for column in ("", "problem", "count", "meaning and examples"):
            table.add_column(column, overflow="fold")
        for finding in findings:
            examples = (example.replace(f"{data.rstrip('/')}/", "") for example in finding.examples)
            text = "\n".join([finding.meaning, *(f"- {example}" for example in examples)])
            table.add_row(finding.severity, finding.kind, str(finding.count), text)
        Console().print(table, markup=False)
        typer.echo(_outlook({finding.kind for finding in findings}, {finding.kind for finding in errors}))
    if errors:
        raise typer.Exit(1)


def _outlook(kinds: set[str], errors: set[str]) -> str:
    """Return whether training would fail with such problems; those of masks concern detectors with masks only."""
    if any(not kind.startswith("mask-") for kind in errors):
        return "Training would fail."
    stops_masks = any(kind.startswith("mask-") for kind in kinds - {"mask-empty"})
    return "Training can go ahead, but not with masks." if stops_masks else "Training can go ahead."


def _unmatched(model: str, data: str, scale: str | None, override: list[str] | None) -> list["IssueSummary"]:
    """Return the problem of objects of the training split that no anchor or point of a model matches."""
    from drfpn.data import IssueSummary, open_dataset

    recall = _recall(model, data, scale, override, open_dataset(data).to_annotations())
    if not recall.missed:
        return []
    missing = "point" if recall.by == "points" else "anchor of IoU 0.5 or more"
    fraction = f"{recall.missed / recall.objects:.1%}"
    meaning = f"{fraction} of the objects have no {missing} with {model} at this scale and will hardly be detected."
    return [
        IssueSummary("object-unmatched", "warning", recall.missed, tuple(recall.examples[: recall.missed]), meaning)
    ]


def _recall(
    model: str, data: str, scale: str | None, override: list[str] | None, objects: "Annotations"
) -> "BestPossibleRecall":
    from drfpn.evaluation.anchor_recall import best_possible_recall
    from drfpn.training import resolve
    from drfpn.training.checkpoint import Card, build

    config = resolve(model, data, scale=scale, overrides=override or ())
    classes = objects.classes
    return best_possible_recall(build(Card(config=config, classes=classes, category_ids=(0,) * len(classes))), objects)


@app.command("stats")
def stats(
    data: DataArgument,
    split: Annotated[str, typer.Option(help="Split to count.")] = "train",
    model: ModelOption = None,
    scale: Scale = None,
    override: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="Histograms to write (.png, .pdf or .svg).")] = None,
    json: Json = False,
) -> None:
    """Count images and objects by class, size and aspect ratio."""
    from drfpn.data import open_dataset
    from drfpn.data import stats as count
    from drfpn.utils.io import open_atomically
    from drfpn.visualization.dataset import save_dataset_histograms

    formats = (".png", ".pdf", ".svg")
    if out is not None and out.suffix not in formats:
        raise UsageError(f"--out is {out}, expected a name that ends in {', '.join(formats)}.")
    with counting("reading annotations") as progress:
        objects = open_dataset(data, split, on_bad="skip", segmentations=True, progress=progress).to_annotations()
    numbers = count(objects)
    recall = None if model is None else _recall(model, data, scale, override, objects)
    if recall is not None:
        numbers["best_possible_recall"] = {"model": model, **recall.model_dump()}
    if out is not None:
        with open_atomically(out) as stream:
            save_dataset_histograms(objects, stream, out.suffix[1:])
    if json:
        print_json(numbers)
        return
    _print_stats(f"{data}, {split}", numbers)
    if out is not None:
        typer.echo(f"histograms in {out}")


def _print_stats(title: str, numbers: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    per_image, sizes = numbers["objects_per_image"], [numbers[key] for key in ("small", "medium", "large")]
    rows = {
        "images": f"{numbers['images']:,} ({numbers['images_without_objects']:,} without objects)",
        "objects": f"{numbers['objects']:,}, and {numbers['crowd']:,} crowds",
        "objects in an image": f"{per_image['mean']:.1f} on average, {per_image['max']} at most",
        "small, medium, large": ", ".join(f"{size:,} ({_percent(size, numbers['objects'])})" for size in sizes),
        "with polygons, with RLE": f"{numbers['with_polygons']:,}, {numbers['with_rle']:,}",
    }
    if recall := numbers.get("best_possible_recall"):
        match = "that a point belongs to" if recall["by"] == "points" else "with an anchor of IoU 0.5"
        recalls = ", ".join(f"{name} {percent(value)}" for name, value in recall["recall"].items())
        rows[f"% {match}, {recall['model']}"] = recalls
        missing = "without a point" if recall["by"] == "points" else f"without one of IoU {recall['threshold']:g}"
        examples = "".join(f"\n{example}" for example in recall["examples"])
        rows[f"objects {missing}"] = f"{recall['below']:,} ({_percent(recall['below'], recall['objects'])}){examples}"
    print_rows(title, rows)
    console = Console(highlight=False)
    if numbers["objects"]:
        table = Table("quantile", *(f"{float(q):.0%}" for q in numbers["quantiles"]["width"]))
        units = {"width": "width, px", "height": "height, px", "aspect": "width / height"}
        for key, values in numbers["quantiles"].items():
            name = units.get(key, "sqrt(area / image area)")
            table.add_row(name, *(f"{value:.3g}" for value in values.values()))
        console.print(table)
    by_class = Table("class", "objects", "")
    for name, objects in sorted(numbers["objects_per_class"].items(), key=lambda item: -item[1]):
        by_class.add_row(escape(name), f"{objects:,}", _percent(objects, numbers["objects"]))
    console.print(by_class)


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


@app.command("show")
def show(
    data: DataArgument,
    out: Annotated[Path, typer.Option(help="Image to write (.png or .jpg).")] = Path("batch.jpg"),
    split: Annotated[str, typer.Option(help="Split to show.")] = "train",
    images: Annotated[int, typer.Option(min=1, max=64, help="Number of images.")] = 12,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the choice of images.")] = 0,
    model: Annotated[
        str, typer.Option(help="Model whose transforms and image sizes are used.")
    ] = "faster_rcnn_lite0_drfpn",
    override: Overrides = None,
) -> None:
    """Draw a training batch with its boxes and masks after augmentation, resizing and padding."""
    from drfpn.data import open_dataset
    from drfpn.data.augment.presets import PRESETS
    from drfpn.training import resolve
    from drfpn.training.setup import iterate_first_batch
    from drfpn.utils.console import say
    from drfpn.visualization import contact_sheet, draw_boxes

    config = resolve(model, data, overrides=[f"batch_size={images}", *(override or ())], seed=seed, on_bad="skip")
    masks = True if PRESETS[config.transforms].copy_paste else None
    with counting("reading annotations") as progress:
        dataset = open_dataset(data, split, on_bad="skip", masks=masks, warn=say, progress=progress)
    pictures = []
    for image, target in iterate_first_batch(dataset, config):
        pixels = image.mul(255).round().clamp(0, 255).byte()
        pictures.append(
            draw_boxes(pixels, target["boxes"], target["labels"], dataset.classes, masks=target.get("masks"))
        )
    contact_sheet(pictures).save(out)
    typer.echo(f"{len(pictures)} images in {out}")


@app.command("convert")
def convert(
    data: DataArgument,
    to: Annotated[str, typer.Option("--to", metavar="coco|voc|yolo", help="Format to write.")],
    out: Annotated[Path, typer.Option(help="New or empty folder.")],
    images: Annotated[
        str, typer.Option(metavar="copy|hardlink|symlink", help="How images are written; links take no disk space.")
    ] = "copy",
    masks: Annotated[bool, typer.Option(help="Write segmentations, in formats that have them.")] = True,
    max_images: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only the first N images of each split.")
    ] = None,
    on_bad: OnBad = "error",
    json: Json = False,
) -> None:
    """Write all splits of a data set in another format, and list what the format cannot store."""
    from drfpn.data import convert as write

    result = write(
        data, to, out, images=images, masks=masks, max_images=max_images, on_bad=on_bad, progress_bar=counting
    )
    if json:
        from dataclasses import asdict

        print_json({"out": str(out), "format": to, **asdict(result)})
        return
    splits = ", ".join(
        f"{split} {count} images with {result.objects[split]} objects" for split, count in result.images.items()
    )
    typer.echo(f"{out} ({to}): {splits}")
    for line in result.lost:
        typer.echo(f"- {line}")
