"""``drfpn view``: plots of feature maps, sampling offsets and channel gates of a neck."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drfpn.cli.common import DATA_HELP, RUN_HELP, Device, Json, choose_device, print_json
from drfpn.utils.errors import UsageError, UserError

if TYPE_CHECKING:
    from drfpn.visualization.hooks import NeckTensors

app = typer.Typer(help="Draw feature maps, sampling offsets and channel gates of a neck.", no_args_is_help=True)

Run = Annotated[Path, typer.Argument(metavar="RUN|FILE", help=RUN_HELP)]
Image = Annotated[Path, typer.Argument(metavar="IMAGE", help="Image file.")]
Out = Annotated[Path, typer.Option(help="Folder for plots and numbers.")]


@app.command()
def features(
    arguments: Annotated[
        list[Path],
        typer.Argument(metavar="RUN|FILE... IMAGE", help="Run folders, weights or hf:USER/NAME, then an image."),
    ],
    out: Out,
    channels: Annotated[
        str,
        typer.Option(
            metavar="top4|mean|3,17", help="Channels: the most active of the first run, the mean, or indices."
        ),
    ] = "top4",
    level: Annotated[int, typer.Option(min=0, help="Index of the level; 0 is the finest, as in the paper.")] = 0,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Draw channels of two neighboring levels before fusion, and of the fused level, for each run (Figures 1 and 5).

    The same channel indices are drawn for all runs, although they have different meanings in different runs.
    """
    from drfpn.inference import load_predictor
    from drfpn.utils.runs import name_runs
    from drfpn.visualization import feature_maps
    from drfpn.visualization.hooks import capture_neck_tensors

    *runs, image = arguments
    if not runs:
        raise UsageError("Give at least one run, and an image after it.")
    pixels = _image(image)
    predictors = {
        name: load_predictor(run, choose_device(device)) for name, run in zip(name_runs(runs), runs, strict=True)
    }
    tensors = {name: capture_neck_tensors(predictor.model, pixels) for name, predictor in predictors.items()}
    first = next(iter(tensors.values()))
    if level >= len(first.levels) - 1:
        raise UsageError(
            f"--level is {level}, expected 0 to {len(first.levels) - 2}: the index of a level with a coarser one."
        )
    width = min(len(m) for one in tensors.values() for m in (*one.outputs, *one.laterals))
    chosen = _channels(channels, first, level, width)
    detections = {name: predictor(pixels).above(0.5).plot(pixels) for name, predictor in predictors.items()}
    out.mkdir(parents=True, exist_ok=True)
    files = []
    for name, one in tensors.items():
        file = out / f"before-{name.replace('/', '-')}.png"
        feature_maps.draw_features_before_fusion(one, level, chosen, file)
        files.append(file)
    files.append(out / "after.png")
    feature_maps.draw_features_after_fusion(tensors, level, chosen, detections, files[-1])
    _print_files(
        {"files": [str(file) for file in files], "channels": chosen, "level": first.levels[level]}, files, json
    )


@app.command()
def offsets(run: Run, image: Image, out: Out, device: Device = "auto", json: Json = False) -> None:
    """Draw the sampling points of SRB, its offsets and omega for an image; report blocks without effect."""
    from drfpn.visualization import feature_maps
    from drfpn.visualization.diagnostics import diagnose_offsets, diagnose_omegas

    pixels = _image(image)
    (tensors,) = _capture(run, [pixels], device)
    if not tensors.offsets and not tensors.omegas:
        raise UserError(f"The neck of {run} has no spatial refinement block (SRB), so it has no offsets.")
    diagnoses = {"offsets": diagnose_offsets(tensors), "weights": diagnose_omegas(tensors)}
    out.mkdir(parents=True, exist_ok=True)
    feature_maps.draw_offsets(tensors, pixels, out / "offsets.png")
    _print_diagnoses(diagnoses, out / "offsets.png", json)


@app.command()
def gates(
    run: Run,
    out: Out,
    image: Annotated[Path | None, typer.Argument(help="Image file, unless --data is given.")] = None,
    data: Annotated[str | None, typer.Option(help=f"{DATA_HELP} Gates are averaged over its images of 'val'.")] = None,
    max_images: Annotated[int, typer.Option(min=1, metavar="N", help="Only the first N images of --data.")] = 50,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Draw the sorted channel gates of CRB for each level; report blocks without effect."""
    from drfpn.data import open_dataset
    from drfpn.visualization import feature_maps
    from drfpn.visualization.diagnostics import diagnose_gates

    if (image is None) == (data is None):
        raise UsageError("Give either an image or --data.")
    if image is not None:
        images = [_image(image)]
    else:
        assert data is not None
        dataset = open_dataset(data, "val")
        images = [dataset.image(i) for i in range(min(max_images, len(dataset)))]
    tensors = _capture(run, images, device)
    if not tensors[0].gates:
        raise UserError(f"The neck of {run} has no channel refinement block (CRB), so it has no gates.")
    out.mkdir(parents=True, exist_ok=True)
    feature_maps.draw_gates(tensors, out / "gates.png")
    _print_diagnoses({"gates": diagnose_gates(tensors)}, out / "gates.png", json)


def _image(file: Path) -> Any:
    from drfpn.data import load_image

    return load_image(file)


def _capture(run: Path, images: Sequence[Any], device: str) -> "list[NeckTensors]":
    from drfpn.training import load_detector
    from drfpn.utils.console import bar
    from drfpn.visualization.hooks import capture_neck_tensors

    model, _ = load_detector(run)
    model = model.to(choose_device(device))
    tensors = []
    with bar("images", len(images)) as progress:
        for image in images:
            tensors.append(capture_neck_tensors(model, image))
            progress.advance()
    return tensors


def _channels(text: str, tensors: "NeckTensors", level: int, width: int) -> list[int | None]:
    from drfpn.visualization.feature_maps import most_active_channels

    if text == "mean":
        return [None]
    if text.startswith("top") and text[3:].isdecimal() and int(text[3:]) > 0:
        return [*most_active_channels(tensors, level, min(int(text[3:]), width))]
    numbers = text.split(",")
    if not all(number.strip().isdecimal() for number in numbers):
        raise UsageError(f"--channels is '{text}', expected numbers such as 3,17, or top4, or mean.")
    for number in map(int, numbers):
        if number >= width:
            raise UsageError(f"--channels has {number}, but the levels have channels 0 to {width - 1}.")
    return [int(number) for number in numbers]


def _print_diagnoses(diagnoses: dict[str, Any], file: Path, json: bool) -> None:
    from drfpn.utils.io import write_json

    numbers = {name: [diagnosis.model_dump() for diagnosis in rows] for name, rows in diagnoses.items()}
    write_json(file.with_suffix(".json"), numbers)
    if json:
        print_json({"files": [str(file), str(file.with_suffix(".json"))], **numbers})
        return
    for name, rows in diagnoses.items():
        for diagnosis in rows:
            typer.echo(f"{name} {diagnosis.pair}: {diagnosis.words}")
    typer.echo(str(file))


def _print_files(numbers: dict[str, Any], files: Sequence[Path], json: bool) -> None:
    if json:
        print_json(numbers)
    else:
        typer.echo("\n".join(map(str, files)))
