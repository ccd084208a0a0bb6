"""``drfpn data check``, ``stats``, ``show`` and ``convert``."""

from pathlib import Path
from typing import Annotated

import typer

from drfpn.cli.common import Json, counting, print_json, print_rows

app = typer.Typer(
    help="Look into a data set before training on it, or write it in another format.", no_args_is_help=True
)

DataArgument = Annotated[
    str, typer.Argument(help="Folder in COCO, VOC or YOLO layout, YOLO's YAML file, or 'shapes'.", metavar="DATA")
]


@app.command("check")
def check(data: DataArgument, json: Json = False) -> None:
    """List what is wrong with a data set; exit code 1 if training would fail on it."""
    from rich.console import Console
    from rich.table import Table

    from drfpn.data import check_dataset

    with counting("reading images") as advance:
        findings = check_dataset(data, progress=advance)
    errors = [finding for finding in findings if finding.severity == "error"]
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


@app.command("stats")
def stats(
    data: DataArgument, split: Annotated[str, typer.Option(help="Split to count.")] = "train", json: Json = False
) -> None:
    """Count images and objects by class and size."""
    from drfpn.data import open_dataset
    from drfpn.data import stats as count

    with counting("reading annotations") as progress:
        numbers = count(open_dataset(data, split, on_bad="skip", segmentations=True, progress=progress))
    if json:
        print_json(numbers)
        return
    rows = {name: str(value) for name, value in numbers.items() if not isinstance(value, dict)}
    rows |= {f"objects of '{name}'": str(value) for name, value in numbers["objects_per_class"].items()}
    print_rows(f"{data}, {split}", rows)


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
    from drfpn.analysis import contact_sheet, draw
    from drfpn.data import open_dataset
    from drfpn.data.presets import PRESETS
    from drfpn.engine import resolve
    from drfpn.engine.progress import say
    from drfpn.engine.run import first_batch

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
