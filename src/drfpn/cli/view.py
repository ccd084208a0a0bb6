"""``drfpn view features``, ``offsets`` and ``gates``: looking into a pyramid."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drfpn.cli.common import DATA_HELP, Device, Json, choose_device, print_json
from drfpn.utils.errors import UserError

if TYPE_CHECKING:
    from drfpn.visualization.hooks import Inspection

app = typer.Typer(help="Look into a pyramid: features, sampling offsets, channel gates.", no_args_is_help=True)

Run = Annotated[Path, typer.Argument(metavar="RUN|FILE", help="Run folder or weights (.safetensors).")]
Out = Annotated[Path, typer.Option(help="Folder for the pictures and their numbers.")]


@app.command()
def features(
    arguments: Annotated[
        list[Path], typer.Argument(metavar="RUN|FILE... IMAGE", help="Runs or weights, and an image last.")
    ],
    out: Out,
    channels: Annotated[
        str, typer.Option(metavar="top4|mean|3,17", help="The most active of the first run, the mean, or numbers.")
    ] = "top4",
    level: Annotated[int, typer.Option(min=0, help="Index of the level; 0 is the finest, as in the paper.")] = 0,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Draw channels of adjacent levels before they are merged, and of the merged level for each run (Figures 1, 5).

    Channels are those of the same number in every run. The runs learned them apart, so they mean other things.
    """
    from drfpn.inference import load_predictor
    from drfpn.utils.runs import name_runs
    from drfpn.visualization import feature_maps
    from drfpn.visualization.hooks import inspect_pyramid

    *runs, image = arguments
    if not runs:
        raise UserError("Give one run or more, and an image last.", exit_code=2)
    pixels = _image(image)
    predictors = {
        name: load_predictor(run, choose_device(device)) for name, run in zip(name_runs(runs), runs, strict=True)
    }
    found = {name: inspect_pyramid(predictor.model, pixels) for name, predictor in predictors.items()}
    first = next(iter(found.values()))
    if level >= len(first.levels) - 1:
        raise UserError(
            f"--level is {level}, expected 0 to {len(first.levels) - 2}: a level and the one above it.", exit_code=2
        )
    widths = min(len(m) for one in found.values() for m in (*one.merged, *one.laterals))
    chosen = _channels(channels, first, level, widths)
    detections = {name: predictor(pixels).above(0.5).plot(pixels) for name, predictor in predictors.items()}
    out.mkdir(parents=True, exist_ok=True)
    files = []
    for name, one in found.items():
        file = out / f"before-{name.replace('/', '-')}.png"
        feature_maps.draw_features_before(one, level, chosen, file)
        files.append(file)
    files.append(out / "after.png")
    feature_maps.draw_features_after(found, level, chosen, detections, files[-1])
    _tell({"files": [str(file) for file in files], "channels": chosen, "level": first.levels[level]}, files, json)


@app.command()
def offsets(run: Run, image: Path, out: Out, device: Device = "auto", json: Json = False) -> None:
    """Draw where SRB samples, how far from the plain grid, and how much it counts; tell dead from working blocks."""
    from drfpn.visualization import feature_maps
    from drfpn.visualization.diagnostics import judge_offsets, judge_weights

    pixels = _image(image)
    (found,) = _inspect(run, [pixels], device)
    if not found.offsets and not found.weights:
        raise UserError(f"The pyramid of {run} has no spatial refinement block: there are no offsets to look at.")
    verdicts = {"offsets": judge_offsets(found), "weights": judge_weights(found)}
    out.mkdir(parents=True, exist_ok=True)
    feature_maps.draw_offsets(found, pixels, out / "offsets.png")
    _judged(verdicts, out / "offsets.png", json)


@app.command()
def gates(
    run: Run,
    out: Out,
    image: Annotated[Path | None, typer.Argument(help="An image; or --data.")] = None,
    data: Annotated[str | None, typer.Option(help=f"Average over images of its 'val': {DATA_HELP}")] = None,
    first: Annotated[int, typer.Option(min=1, metavar="N", help="Of these, the first N.")] = 50,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Draw how CRB weighs the channels of each level, sorted; tell dead blocks from working ones."""
    from drfpn.data import open_dataset
    from drfpn.visualization import feature_maps
    from drfpn.visualization.diagnostics import judge_gates

    if (image is None) == (data is None):
        raise UserError("Give either an image or --data.", exit_code=2)
    if image is not None:
        images = [_image(image)]
    else:
        assert data is not None
        dataset = open_dataset(data, "val")
        images = [dataset.image(i) for i in range(min(first, len(dataset)))]
    found = _inspect(run, images, device)
    if not found[0].gates:
        raise UserError(f"The pyramid of {run} has no channel refinement block: there are no gates to look at.")
    out.mkdir(parents=True, exist_ok=True)
    feature_maps.draw_gates(found, out / "gates.png")
    _judged({"gates": judge_gates(found)}, out / "gates.png", json)


def _image(file: Path) -> Any:
    from drfpn.data import load_image

    return load_image(file)


def _inspect(run: Path, images: Sequence[Any], device: str) -> "list[Inspection]":
    from drfpn.training import load_detector
    from drfpn.utils.console import bar
    from drfpn.visualization.hooks import inspect_pyramid

    model, _ = load_detector(run)
    model = model.to(choose_device(device))
    found = []
    with bar("looking", len(images)) as progress:
        for image in images:
            found.append(inspect_pyramid(model, image))
            progress.advance()
    return found


def _channels(text: str, found: "Inspection", level: int, width: int) -> list[int | None]:
    from drfpn.visualization.feature_maps import most_active

    if text == "mean":
        return [None]
    if text.startswith("top") and text[3:].isdecimal() and int(text[3:]) > 0:
        return [*most_active(found, level, min(int(text[3:]), width))]
    numbers = text.split(",")
    if not all(number.strip().isdecimal() for number in numbers):
        raise UserError(f"--channels is '{text}', expected numbers such as 3,17, or top4, or mean.", exit_code=2)
    for number in map(int, numbers):
        if number >= width:
            raise UserError(f"--channels has {number}, but the levels have channels 0 to {width - 1}.", exit_code=2)
    return [int(number) for number in numbers]


def _judged(verdicts: dict[str, Any], file: Path, json: bool) -> None:
    from drfpn.utils.io import write_json

    numbers = {name: [verdict.model_dump() for verdict in of] for name, of in verdicts.items()}
    write_json(file.with_suffix(".json"), numbers)
    if json:
        print_json({"files": [str(file), str(file.with_suffix(".json"))], **numbers})
        return
    for name, of in verdicts.items():
        for verdict in of:
            typer.echo(f"{name} {verdict.pair}: {verdict.words}")
    typer.echo(str(file))


def _tell(numbers: dict[str, Any], files: Sequence[Path], json: bool) -> None:
    if json:
        print_json(numbers)
    else:
        typer.echo("\n".join(map(str, files)))
