"""``drfpn data``: checking, counting, showing, splitting and converting data sets."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drfpn.cli.common import DATA_HELP, Images, Json, OnBad, Overrides, counting, make_console, print_json, print_rows
from drfpn.utils.errors import UsageError, UserError
from drfpn.utils.formatting import percent, printable

if TYPE_CHECKING:
    from PIL.Image import Image

    from drfpn.data import Annotations, IssueSummary, SplitResult
    from drfpn.data.validation.check import DatasetReport
    from drfpn.evaluation.anchor_recall import BestPossibleRecall

app = typer.Typer(help="Check, count, show, split and convert data sets.", no_args_is_help=True)

DataArgument = Annotated[str, typer.Argument(help=DATA_HELP, metavar="DATA")]


ModelOption = Annotated[
    str | None, typer.Option(help="Model; also count the objects that match none of its anchors or points.")
]
Scale = Annotated[str | None, typer.Option(help="Scale of the model: 'small' or 'paper'; default: by backbone.")]


_PICTURES = (".png", ".jpg", ".jpeg")


def _check_suffix(out: Path, formats: tuple[str, ...]) -> None:
    if out.suffix.lower() not in formats:
        raise UsageError(f"--out is {out}, expected a name that ends in {', '.join(formats)}.")


def _save_picture(picture: "Image", out: Path) -> None:
    from drfpn.utils.io import open_atomically

    with open_atomically(out) as stream:
        picture.save(stream, "PNG" if out.suffix.lower() == ".png" else "JPEG", quality=92)


@app.command("check")
def check(
    data: DataArgument,
    model: ModelOption = None,
    scale: Scale = None,
    override: Overrides = None,
    images: Images = None,
    out: Annotated[
        Path | None, typer.Option(help="Contact sheet to write (.png or .jpg): images with their boxes.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, max=64, help="Images of each split on the contact sheet.")] = 12,
    json: Json = False,
) -> None:
    """List the problems of a data set; exit code 1 if training would fail on it."""
    from drfpn.data.validation.check import inspect_dataset

    if out is not None:
        _check_suffix(out, _PICTURES)
    report = inspect_dataset(data, progress_bar=counting, images=images)
    issues = list(report.issues)
    has_errors = any(issue.severity == "error" for issue in issues)
    if model is not None and not has_errors:
        issues += _unmatched(model, data, images, scale, override)
    conclusion = _rendered(report.conclusion.text)
    if json:
        from dataclasses import asdict

        findings = [asdict(issue) for issue in issues]
        result = {"data": data, "ok": not has_errors, "findings": findings, "conclusion": conclusion}
        splits = {split: asdict(contents) for split, contents in report.conclusion.splits.items()}
        print_json(result | {"splits": splits, "not_used": dict(report.conclusion.not_used)})
    else:
        _print_issues(data, issues)
        typer.echo(printable(conclusion, None))
    if out is not None:
        _draw_sheet(report, out, samples, quiet=json)
    if has_errors:
        raise typer.Exit(1)


def _print_issues(data: str, issues: list["IssueSummary"]) -> None:
    from rich.table import Table

    if not issues:
        typer.echo(f"{data}: no problems")
        return
    table = Table(title=printable(data, None), title_justify="left", show_lines=True)
    for column in ("", "problem", "count", "meaning and examples"):
        table.add_column(column, overflow="fold")
    for issue in issues:
        examples = (
            printable(_rendered(example.replace(f"{data.rstrip('/')}/", "")), None) for example in issue.examples
        )
        text = "\n".join([_rendered(issue.meaning), *(f"- {example}" for example in examples)])
        table.add_row(issue.severity, issue.kind, str(issue.count), text)
    make_console().print(table)


def _rendered(text: str) -> str:
    """Return a text with the settings of a training written as options of ``drfpn train``."""
    from drfpn.cli.app import app as all_commands
    from drfpn.cli.hints import parameters_of, render

    return render(text, parameters_of(all_commands, ["train"]))


def _draw_sheet(report: "DatasetReport", out: Path, samples: int, *, quiet: bool) -> None:
    from drfpn.visualization.samples import draw_samples

    with counting("drawing images") as progress:
        sheet = draw_samples(report.annotations, samples, report.flagged, progress)
    if sheet is None:
        raise UserError(f"No image can be drawn, so {out} is not written.")
    _save_picture(sheet, out)
    if not quiet:
        typer.echo(f"contact sheet in {out}")


def _unmatched(
    model: str, data: str, images: str | None, scale: str | None, override: list[str] | None
) -> list["IssueSummary"]:
    """Return the problem of objects of the training split that no anchor or point of a model matches."""
    from drfpn.data import IssueSummary, open_dataset

    recall = _recall(model, data, scale, override, open_dataset(data, images=images).to_annotations())
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
    images: Images = None,
    out: Annotated[Path | None, typer.Option(help="Histograms to write (.png, .pdf or .svg).")] = None,
    json: Json = False,
) -> None:
    """Count images and objects by class, size and aspect ratio."""
    from drfpn.data import open_dataset
    from drfpn.data import stats as count
    from drfpn.utils.io import open_atomically
    from drfpn.visualization.dataset import save_dataset_histograms

    if out is not None:
        _check_suffix(out, (".png", ".pdf", ".svg"))
    options: dict[str, Any] = {"on_bad": "skip", "images": images, "segmentations": True}
    with counting("reading annotations") as progress:
        objects = open_dataset(data, split, **options, progress=progress).to_annotations()
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
    console = make_console()
    if numbers["objects"]:
        table = Table("quantile", *(f"{float(q):.0%}" for q in numbers["quantiles"]["width"]))
        units = {"width": "width, px", "height": "height, px", "aspect": "width / height"}
        for key, values in numbers["quantiles"].items():
            name = units.get(key, "sqrt(area / image area)")
            table.add_row(name, *(f"{value:.3g}" for value in values.values()))
        console.print(table)
    by_class = Table("class", "objects", "")
    for name, objects in sorted(numbers["objects_per_class"].items(), key=lambda item: -item[1]):
        by_class.add_row(printable(name), f"{objects:,}", _percent(objects, numbers["objects"]))
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

    _check_suffix(out, _PICTURES)
    config = resolve(model, data, overrides=[f"batch_size={images}", *(override or ())], seed=seed, on_bad="skip")
    options: dict[str, Any] = {"on_bad": "skip", "images": config.images, "crowd": config.crowd, "warn": say}
    options["masks"] = True if PRESETS[config.transforms].copy_paste else None
    with counting("reading annotations") as progress:
        dataset = open_dataset(data, split, **options, progress=progress)
    pictures = []
    for image, target in iterate_first_batch(dataset, config):
        pixels = image.mul(255).round().clamp(0, 255).byte()
        pictures.append(
            draw_boxes(pixels, target["boxes"], target["labels"], dataset.classes, masks=target.get("masks"))
        )
    _save_picture(contact_sheet(pictures), out)
    typer.echo(f"{len(pictures)} images in {out}")


@app.command("convert")
def convert(
    data: DataArgument,
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help="coco, voc, yolo, labelme or imagefolder.")],
    out: Annotated[Path, typer.Option(help="New or empty folder.")],
    images: Images = None,
    transfer: Annotated[
        str, typer.Option(metavar="copy|hardlink|symlink", help="How images are written; links take no disk space.")
    ] = "copy",
    crowd: Annotated[str, typer.Option(help="Crowds: 'ignore' to write them as such, or 'object'.")] = "ignore",
    masks: Annotated[bool, typer.Option(help="Write segmentations, in formats that have them.")] = True,
    max_images: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only the first N images of each split.")
    ] = None,
    on_bad: OnBad = "error",
    json: Json = False,
) -> None:
    """Write all splits of a data set in another format, and list what the format cannot store."""
    from drfpn.data import convert as write

    how: dict[str, Any] = {"images": images, "transfer": transfer, "crowd": crowd, "masks": masks}
    result = write(data, to, out, **how, max_images=max_images, on_bad=on_bad, progress_bar=counting)
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


@app.command("split")
def split(
    data: DataArgument,
    val: Annotated[float, typer.Option(metavar="FRACTION", help="Fraction of the images for 'val'.")],
    test: Annotated[float, typer.Option(metavar="FRACTION", help="Fraction of the images for 'test'.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the choice.")] = 0,
    group_similar: Annotated[
        bool, typer.Option("--group-similar/--no-group-similar", help="Keep images together that look alike.")
    ] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace existing lists.")] = False,
    images: Images = None,
    json: Json = False,
) -> None:
    """Divide a data set without 'val' into lists of images, with equal shares of the classes.

    Example: drfpn data split path/to/dataset --val 0.2
    """
    from drfpn.data import split_dataset

    result = split_dataset(
        data,
        val,
        test,
        seed=seed,
        group_similar=group_similar,
        force=force,
        images=images,
        progress_bar=counting,
    )
    if json:
        numbers = {
            "files": {name: str(file) for name, file in result.files.items()},
            "images": {name: len(part) for name, part in result.splits.items()},
            "objects_per_class": {name: _objects_per_class(part) for name, part in result.splits.items()},
        }
        similar = {"similar_groups": result.similar_groups, "similar_images": result.similar_images}
        print_json({"data": data, **numbers, **similar, "undecodable": result.undecodable})
        return
    _print_splits(result, {"val": val, "test": test})
    if result.undecodable:
        typer.echo(f"{result.undecodable:,} images cannot be decoded: 'drfpn data check' lists them")
    typer.echo(f"lists of {', '.join(result.splits)} in {next(iter(result.files.values())).parent}")


def _print_splits(result: "SplitResult", fractions: dict[str, float]) -> None:
    """Print the images and the objects of each class by split, with the share of each split, and of similar images."""
    from rich.table import Table

    parts = result.splits
    table = Table("", *parts)
    images = sum(map(len, parts.values()))
    table.add_row("images", *(f"{len(part):,} ({_percent(len(part), images)})" for part in parts.values()))
    counts = {name: _objects_per_class(part) for name, part in parts.items()}
    total = Counter[str]()
    for of_split in counts.values():
        total.update(of_split)
    for name, objects in total.most_common():
        shares = (f"{of_split[name]:,} ({_percent(of_split[name], objects)})" for of_split in counts.values())
        table.add_row(printable(name), *shares)
    make_console().print(table)
    if not result.similar_groups:
        return
    groups = f"{result.similar_groups:,} {'group' if result.similar_groups == 1 else 'groups'}"
    typer.echo(f"{result.similar_images:,} images look alike and are kept together, in {groups}")
    for name, part in parts.items():
        share, fraction = len(part) / images, fractions.get(name)
        if fraction is not None and abs(share - fraction) > 0.05:
            typer.echo(f"{name} has {share:.1%} of the images, not {fraction:.1%}: --no-group-similar divides groups")


def _objects_per_class(annotations: "Annotations") -> dict[str, int]:
    from drfpn.data import stats as count

    return dict(count(annotations)["objects_per_class"])
