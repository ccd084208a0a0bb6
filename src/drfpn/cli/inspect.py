"""``drfpn info`` and ``drfpn models``: costs of a model, and the list of models."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from drfpn.cli.common import Device, Json, choose_device, make_console, parse_size, print_json, print_rows

if TYPE_CHECKING:
    from drfpn.training.trial_step import TrialStep


def info(
    model: Annotated[str, typer.Argument(help="Name of the model, DETECTOR_BACKBONE_NECK.")],
    size: Annotated[str, typer.Option(help="Height and width of the image, HEIGHTxWIDTH.")] = "800x1280",
    classes: Annotated[int, typer.Option(min=1, help="Foreground classes.")] = 80,
    width: Annotated[int, typer.Option(min=8, help="Channels of the neck.")] = 256,
    convention: Annotated[
        str | None, typer.Option(help="Convention of DRFPN: 'bounded' (default), 'paper' or 'release'.")
    ] = None,
    step: Annotated[bool, typer.Option("--step", help="Also run a training step on noise.")] = False,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Count the parameters and multiply-adds of a model."""
    from drfpn import build_detector
    from drfpn.evaluation import model_complexity
    from drfpn.evaluation.flops import PROPOSALS

    height, image_width = parse_size(size)
    options = {} if convention is None else {"convention": convention}
    detector = build_detector(model, classes, width=width, neck_options=options)
    counts = model_complexity(detector, height, image_width)
    measured = _step(model, classes, width, options, (height, image_width), device) if step else None
    if json:
        print_json({"model": model, **counts.model_dump()} | ({"step": measured.model_dump()} if measured else {}))
        return
    proposals = f", {PROPOSALS} proposals" if detector.roi_stages else ""
    print_rows(
        f"{model}, {classes} classes",
        {
            "parameters": f"{counts.params:,}",
            "of these trainable": f"{counts.trainable_params:,}",
            "frozen": counts.frozen,
            "parameters of the neck": f"{counts.neck_params:,}",
            f"multiply-adds at {size}{proposals}": f"{counts.macs / 1e9:.1f} G",
            "multiply-adds of the neck": f"{counts.neck_macs / 1e9:.1f} G",
        }
        | (_step_rows(measured) if measured else {}),
    )


def _step(
    model: str, classes: int, width: int, options: dict[str, Any], size: tuple[int, int], device: str
) -> "TrialStep":
    """Run a training step; BatchNorm uses batch statistics, which keeps the maps of a random backbone finite."""
    from drfpn import build_detector
    from drfpn.training.trial_step import run_trial_step

    sides: dict[str, Any] = {"min_size": min(size), "max_size": max(size)}
    detector = build_detector(model, classes, width=width, neck_options=options, norm_eval=False, **sides)
    return run_trial_step(detector.to(choose_device(device)), *size)


def _step_rows(trial: "TrialStep") -> dict[str, str]:
    return {
        "one training step": f"{trial.seconds:.1f} s, loss {trial.loss:.3g}",
        "peak memory": f"{trial.peak_gib:.1f} GiB" if trial.peak_gib else "unknown",
        "parameters without a gradient": ", ".join(trial.without) or "none",
    }


def models(
    paper: Annotated[
        bool, typer.Option("--paper", help="Print Table 1 of the paper with the models of this library.")
    ] = False,
    json: Json = False,
) -> None:
    """List the models; any timm backbone with feature maps of strides 4 to 32 can be used as well."""
    if paper:
        _print_paper(json)
        return
    from drfpn import list_models
    from drfpn.backbones import BACKBONES, PLAIN_BACKBONES
    from drfpn.detectors import parse_name

    names = list_models()
    if json:
        print_json({"models": names})
        return
    from rich.table import Table

    table = Table(title=f"{len(names)} models", title_justify="left")
    for column in ("model", "detector", "backbone (timm)", "neck"):
        table.add_column(column, no_wrap=True)
    for name in names:
        detector, backbone, neck = parse_name(name)
        table.add_row(name, detector, (BACKBONES | PLAIN_BACKBONES)[backbone], neck)
    make_console().print(table)
    typer.echo("Other backbones are called by their timm names, such as faster_rcnn_mobilenetv3_large_100_drfpn.")


def _print_paper(json: bool) -> None:
    from rich.table import Table

    from drfpn.ablations.table1 import TABLE, trainable_parameters

    counts = trainable_parameters()
    if json:
        print_json({"rows": [row._asdict() | {"params": counts.get(row.model or "")} for row in TABLE]})
        return
    table = Table(box=None, padding=(0, 1, 0, 0), collapse_padding=True, pad_edge=False)
    for column in ("method", "backbone", "schd", "model"):
        table.add_column(column, no_wrap=True)
    for column in ("AP", "AP50", "AP75", "S", "M", "L", "params"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("check", no_wrap=True)
    for row in TABLE:
        model = ("not implemented", "-", "-")
        if row.model:
            model = (row.model, f"{counts[row.model] / 1e6:.2f}", row.done[-1])
        table.add_row(row.method, row.backbone, row.schedule, model[0], *_metrics(row.box), *model[1:])
        if row.mask:
            table.add_row("  masks", "", "", "", *_metrics(row.mask))
    console = make_console(min_width=120)
    console.print("Table 1 of the paper: AP in % on COCO test-dev, as published")
    console.print(table)
    console.print(
        "* trained by the authors of the paper; params: trainable, in millions (80 classes, convention=release).\n"
        "check: built, counted, or stepped (one training step at full size); no AP was measured with this library."
    )
    for method, options in {row.method: row.options for row in TABLE if row.options}.items():
        settings = ", ".join(f"{key}={value}" for key, value in options.items())
        console.print(f"{method} also sets {settings} (-o detector_options.KEY=VALUE).")


def _metrics(values: tuple[float, ...]) -> list[str]:
    """Format the six COCO metrics of AP; a dash where the paper has none."""
    return [f"{value:.1f}" for value in values] + ["-"] * (6 - len(values))
