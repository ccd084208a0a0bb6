"""``drfpn train`` and ``drfpn demo``: training and evaluation of a detector."""

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drfpn.cli.common import (
    DATA_HELP,
    Device,
    Epochs,
    Images,
    Json,
    Overrides,
    Schedule,
    choose_device,
    counting,
    print_json,
    print_metrics,
)
from drfpn.utils.errors import UsageError, UserError

if TYPE_CHECKING:
    from drfpn.evaluation import Metrics
    from drfpn.training import RunConfig


def train(
    model: Annotated[
        str | None,
        typer.Argument(help="Model, DETECTOR_BACKBONE_NECK; 'drfpn models' lists them.", show_default=False),
    ] = None,
    data: Annotated[str | None, typer.Option(help=DATA_HELP, metavar="DATA", show_default=False)] = None,
    images: Images = None,
    schedule: Schedule = None,
    epochs: Epochs = None,
    scale: Annotated[str | None, typer.Option(help="Scale: 'small' or 'paper'; default: by backbone.")] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="RUN|torchvision|FILE",
            help="Initial weights: a run with any neck (hf:USER/NAME: on the Hugging Face Hub), or torchvision's.",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings of another run, in place of MODEL and --data.")
    ] = None,
    override: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; default: a new one in runs/.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume the run in --out, without MODEL and --data.")
    ] = False,
    nproc: Annotated[int, typer.Option(min=1, help="Processes for data-parallel training, one for each GPU.")] = 1,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="Use deterministic operators only, on GPUs too.")
    ] = False,
    val_split: Annotated[str | None, typer.Option(help="Split to evaluate on; default: val.")] = None,
    max_train_images: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Train on the first N images only.")
    ] = None,
    on_bad: Annotated[str | None, typer.Option(help="Invalid images and boxes: 'error', 'skip' or 'fix'.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the random numbers; default: 0.")] = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Train a detector and evaluate it; writes a run folder with weights, metrics, report and pictures.

    Example: drfpn train faster_rcnn_lite0_drfpn --data path/to/dataset --epochs 10
    """
    from drfpn.training.run_folder import saved_config
    from drfpn.training.source_run import check_weights
    from drfpn.utils import distributed

    if nproc > 1 and distributed.launched_world_size() == 1:
        from drfpn.training.launch import launch

        raise typer.Exit(launch(sys.argv[1:], nproc))
    options: dict[str, Any] = {"scale": scale, "schedule": schedule, "epochs": epochs, "weights": weights, "seed": seed}
    options |= {"val_split": val_split, "max_train_images": max_train_images, "on_bad": on_bad, "images": images}
    options |= {"deterministic": deterministic or None}
    if resume and out is not None and model is None and data is None and config is None:
        settings = saved_config(out)
    elif config is not None:
        settings = _read_settings(config, {"MODEL": model, "--data": data} | options, override or ())
    else:
        settings = _resolve(model, data, options, override or (), resume=resume)
    if not resume:
        check_weights(settings.weights)
    metrics, folder = run(settings, out, resume=resume, device=device)
    if distributed.launched_as_main():
        _print_result(metrics, folder, json)


def _resolve(
    model: str | None, data: str | None, options: Mapping[str, Any], overrides: Sequence[str], *, resume: bool
) -> "RunConfig":
    """Return the settings of a model on a data set.

    Raises:
        UsageError: one of the two is missing.
    """
    from drfpn.training import resolve
    from drfpn.training.source_run import check_weights

    if model is None or data is None:
        raise UsageError("Give MODEL and --data, or --config, or --resume and --out with the run folder.")
    if not resume:
        check_weights(options["weights"])
    return resolve(model, data, overrides=overrides, **options)


def _read_settings(file: Path, options: Mapping[str, Any], overrides: Sequence[str]) -> "RunConfig":
    """Read the settings of another run.

    Raises:
        UsageError: other options than ``-o`` are given.
    """
    from drfpn.training.resolve import read_config

    for name in [name for name, value in options.items() if value is not None][:1]:
        option = name if name in ("MODEL", "--data") else f"--{name.replace('_', '-')}"
        raise UsageError(f"--config has all settings, so {option} cannot be given as well: use -o.")
    return read_config(file, overrides, note=True)


def _print_result(metrics: "Metrics", folder: Path, json: bool) -> None:
    if json:
        print_json({"run": str(folder), **metrics.model_dump()})
        return
    print_metrics(metrics)
    typer.echo(f"run: {folder}  (weights, metrics.json, report.html, pictures/)")


FROM_SCRATCH = (
    *("weights_backbone=null", "optimizer=adamw", "base_lr=0.002", "min_size=160", "max_size=220"),
    "detector_options.box_batch_size_per_image=64",
)
"""Settings of the demo without ImageNet weights: AdamW on smaller images, for more epochs."""


def demo(
    out: Annotated[Path, typer.Option(help="Run folder; an existing run is overwritten.")] = Path("runs/demo"),
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of 800 synthetic images.")] = None,
    scratch: Annotated[bool, typer.Option("--scratch", help="Do not use ImageNet weights.")] = False,
    json: Json = False,
) -> None:
    """Train a small DRFPN detector on synthetic shapes, evaluate it and draw its detections."""
    from drfpn.backbones import pypi_weights_file
    from drfpn.training import resolve
    from drfpn.utils.console import say

    if out.exists():
        if not (out / "config.yaml").is_file():
            raise UserError(f"{out} exists and is not a run: choose another --out.")
        shutil.rmtree(out)
    scratch = scratch or pypi_weights_file() is None
    if scratch:
        say("Training from scratch takes half an hour on two cores; with 'drfpn[lite0]' installed, seven minutes.")
    config = resolve(
        "faster_rcnn_lite0_drfpn",
        "shapes",
        scale="small",
        epochs=epochs or (24 if scratch else 3),
        overrides=FROM_SCRATCH if scratch else (),
    )
    metrics, folder = run(config, out)
    if json:
        print_json({"run": str(folder), **metrics.model_dump()})
    else:
        print_metrics(metrics)
        typer.echo(f"Look at {folder / 'report.html'} or at the pictures in {folder / 'pictures'}.")


def run(config: "RunConfig", out: Path | None, *, resume: bool = False, device: str = "auto") -> tuple["Metrics", Path]:
    """Open the data, choose the run folder, train and write the report.

    Args:
        config: settings of the run.
        out: run folder; ``None`` is a new one in ``runs/``, or the newest one of the model and data to resume.
        resume: continue the run.
        device: name of the device.

    Returns:
        The COCO metrics after the last epoch, and the run folder.
    """
    from drfpn.training import Interrupted, train
    from drfpn.training.run_folder import new_run_folder, newest_run_folder
    from drfpn.training.workflow import open_splits
    from drfpn.utils import distributed
    from drfpn.utils.console import say

    torch_device = choose_device(device)
    with distributed.process_group(torch_device):
        train_set, val_set = open_splits(config, counting)
        if out is None:
            out = newest_run_folder(config) if resume else distributed.broadcast_object(new_run_folder(config))
        try:
            return train(config, out, train_set, val_set, device=torch_device, resume=resume), out
        except (KeyboardInterrupt, Interrupted):
            if (out / "state.pt").exists():
                say(f"to resume: drfpn train --resume --out {shlex.quote(str(out))}")
            raise
