"""``drfpn data check``, ``stats``, ``show`` and ``convert``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drfpn.cli.common import Json, counting, percent, print_json, print_rows
from drfpn.utils.errors import UserError

if TYPE_CHECKING:
    from drfpn.data import Finding
    from drfpn.data.stats import Objects
    from drfpn.evaluation.anchor_recall import Recall

app = typer.Typer(
    help="Look into a data set before training on it, or write it in another format.", no_args_is_help=True
)

DataArgument = Annotated[
    str, typer.Argument(help="Folder in COCO, VOC or YOLO layout, YOLO's YAML file, or 'shapes'.", metavar="DATA")
]


ModelOption = Annotated[
    str | None, typer.Option(help="Also see which objects this model's anchors can be matched with.")
]
Scale = Annotated[str | None, typer.Option(help="Of that model: 'small' or 'paper'; default: what suits the backbone.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("-o", "--override", metavar="KEY=VALUE", help="Settings of that model, as for train."),
]


@app.command("check")
def check(
    data: DataArgument, model: ModelOption = None, scale: Scale = None, override: Overrides = None, json: Json = False
) -> None:
    """List what is wrong with a data set; exit code 1 if training would fail on it."""
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
        typer.echo(f"{data}: nothing found")
    else:
        table = Table(title=data, title_justify="left", show_lines=True)
        for column in ("", "what", "count", "meaning and examples"):
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
    """Say what training would do with such faults; those of masks do not matter to detectors of boxes."""
    if any(not kind.startswith("mask-") for kind in errors):
        return "Training would fail."
    stops_masks = any(kind.startswith("mask-") for kind in kinds - {"mask-empty"})
    return "Training can go ahead, but not with masks." if stops_masks else "Training can go ahead."


def _unmatched(model: str, data: str, scale: str | None, override: list[str] | None) -> list["Finding"]:
    """Return a finding about the objects of the training split that a model cannot be matched with."""
    from drfpn.data import Finding, open_dataset
    from drfpn.data.stats import objects_of

    recall = _recall(model, data, scale, override, objects_of(open_dataset(data)))
    if not recall.missed:
        return []
    lacks = "point" if recall.by == "points" else "anchor of IoU 0.5 or more"
    share = f"{recall.missed / recall.objects:.1%}"
    meaning = f"{share} of the objects have no {lacks} with {model} at this scale, which will hardly find them."
    return [Finding("object-unmatched", "warning", recall.missed, tuple(recall.examples[: recall.missed]), meaning)]


def _recall(model: str, data: str, scale: str | None, override: list[str] | None, objects: "Objects") -> "Recall":
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
    out: Annotated[Path | None, typer.Option(help="Also draw histograms (.png, .pdf or .svg).")] = None,
    json: Json = False,
) -> None:
    """Count images and objects by class, size and shape."""
    from drfpn.data import open_dataset
    from drfpn.data import stats as count
    from drfpn.data.stats import objects_of
    from drfpn.utils.io import replaced
    from drfpn.visualization.dataset import save_distribution

    forms = (".png", ".pdf", ".svg")
    if out is not None and out.suffix not in forms:
        raise UserError(f"--out is {out}, expected a name that ends in {', '.join(forms)}.", exit_code=2)
    with counting("reading annotations") as progress:
        objects = objects_of(open_dataset(data, split, on_bad="skip", segmentations=True, progress=progress))
    numbers = count(objects)
    recall = None if model is None else _recall(model, data, scale, override, objects)
    if recall is not None:
        numbers["best_possible_recall"] = {"model": model, **recall.model_dump()}
    if out is not None:
        with replaced(out) as stream:
            save_distribution(objects, stream, out.suffix[1:])
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
        "objects": f"{numbers['objects']:,}, and {numbers['crowd']:,} crowd regions",
        "objects in an image": f"{per_image['mean']:.1f} on average, {per_image['max']} at most",
        "small, medium, large": ", ".join(f"{size:,} ({_percent(size, numbers['objects'])})" for size in sizes),
        "with polygons, with RLE": f"{numbers['with_polygons']:,}, {numbers['with_rle']:,}",
    }
    if recall := numbers.get("best_possible_recall"):
        what = "that a point belongs to" if recall["by"] == "points" else "with an anchor of IoU 0.5"
        shares = ", ".join(f"{name} {percent(value)}" for name, value in recall["recall"].items())
        rows[f"% {what}, {recall['model']}"] = shares
        least = "without a point" if recall["by"] == "points" else f"without one of IoU {recall['threshold']:g}"
        examples = "".join(f"\n{example}" for example in recall["examples"])
        rows[f"objects {least}"] = f"{recall['below']:,} ({_percent(recall['below'], recall['objects'])}){examples}"
    print_rows(title, rows)
    console = Console(highlight=False)
    if numbers["objects"]:
        table = Table("quantile", *(f"{float(q):.0%}" for q in numbers["quantiles"]["width"]))
        units = {"width": "width, px", "height": "height, px", "aspect": "width / height"}
        for key, values in numbers["quantiles"].items():
            name = units.get(key, "root of its share of the image")
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
    out: Annotated[Path, typer.Option(help="Picture to write (.png or .jpg).")] = Path("batch.jpg"),
    split: Annotated[str, typer.Option(help="Split to show.")] = "train",
    images: Annotated[int, typer.Option(min=1, max=64, help="How many.")] = 12,
    seed: Annotated[int, typer.Option(min=0, help="Which.")] = 0,
    model: Annotated[str, typer.Option(help="Whose scale and sizes.")] = "faster_rcnn_lite0_drfpn",
    override: Annotated[
        list[str] | None, typer.Option("-o", "--override", metavar="KEY=VALUE", help="As for train: transforms=lsj.")
    ] = None,
) -> None:
    """Draw a batch with its boxes and masks as the model sees it: transformed, resized and padded."""
    from drfpn.data import open_dataset
    from drfpn.data.augment.presets import PRESETS
    from drfpn.training import resolve
    from drfpn.training.run import first_batch
    from drfpn.utils.console import say
    from drfpn.visualization import contact_sheet, draw

    config = resolve(model, data, overrides=[f"batch_size={images}", *(override or ())], seed=seed, on_bad="skip")
    masks = True if PRESETS[config.transforms].pastes else None
    with counting("reading annotations") as progress:
        dataset = open_dataset(data, split, on_bad="skip", masks=masks, warn=say, progress=progress)
    pictures = []
    for image, target in first_batch(dataset, config):
        pixels = image.mul(255).round().clamp(0, 255).byte()
        pictures.append(draw(pixels, target["boxes"], target["labels"], dataset.classes, masks=target.get("masks")))
    contact_sheet(pictures).save(out)
    typer.echo(f"{len(pictures)} images in {out}")


@app.command("convert")
def convert(
    data: DataArgument,
    to: Annotated[str, typer.Option("--to", metavar="coco|voc|yolo", help="Format to write.")],
    out: Annotated[Path, typer.Option(help="New or empty folder.")],
    images: Annotated[
        str, typer.Option(metavar="copy|hardlink|symlink", help="How images get there; links take no space.")
    ] = "copy",
    masks: Annotated[bool, typer.Option(help="Write segmentations too, where the format has them.")] = True,
    first: Annotated[int | None, typer.Option(min=1, help="Only the first N images of each split.")] = None,
    on_bad: Annotated[str, typer.Option(help="Boxes that cannot be: 'error', 'skip' or 'fix'.")] = "error",
    json: Json = False,
) -> None:
    """Write all splits of a data set in another format, and say what that format cannot hold."""
    from drfpn.data import convert as write

    done = write(data, to, out, images=images, masks=masks, first=first, on_bad=on_bad, stage=counting)
    if json:
        from dataclasses import asdict

        print_json({"out": str(out), "format": to, **asdict(done)})
        return
    splits = ", ".join(
        f"{split} {count} images with {done.objects[split]} objects" for split, count in done.images.items()
    )
    typer.echo(f"{out} ({to}): {splits}")
    for line in done.lost:
        typer.echo(f"- {line}")
