"""``drfpn info`` and ``drfpn models``."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from drfpn.cli.common import Device, Json, choose_device, parse_size, print_json, print_rows

if TYPE_CHECKING:
    from drfpn.training.trial_step import Step


def info(
    model: Annotated[str, typer.Argument(help="DETECTOR_BACKBONE_PYRAMID.")],
    size: Annotated[str, typer.Option(help="HEIGHTxWIDTH of the image that is counted for.")] = "800x1280",
    classes: Annotated[int, typer.Option(min=1, help="Foreground classes.")] = 80,
    width: Annotated[int, typer.Option(min=8, help="Channels of the pyramid.")] = 256,
    convention: Annotated[str | None, typer.Option(help="Of DRFPN: 'bounded' (default), 'paper' or 'release'.")] = None,
    step: Annotated[bool, typer.Option("--step", help="Also train one step on noise of that size.")] = False,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Count a model's parameters and multiply-adds, without running it unless --step asks for it."""
    from drfpn import build_detector
    from drfpn.evaluation import count
    from drfpn.evaluation.flops import PROPOSALS

    height, image_width = parse_size(size)
    options = {} if convention is None else {"convention": convention}
    detector = build_detector(model, classes, width=width, neck_options=options)
    counts = count(detector, height, image_width)
    taken = _step(model, classes, width, options, (height, image_width), device) if step else None
    if json:
        print_json({"model": model, **counts.model_dump()} | ({"step": taken.model_dump()} if taken else {}))
        return
    regions = f", {PROPOSALS} proposals" if hasattr(detector, "roi_heads") else ""
    print_rows(
        f"{model}, {classes} classes",
        {
            "parameters": f"{counts.params:,}",
            "of these trainable": f"{counts.trainable_params:,}",
            "frozen": counts.frozen,
            "parameters of the pyramid": f"{counts.neck_params:,}",
            f"multiply-adds at {size}{regions}": f"{counts.macs / 1e9:.1f} G",
            "multiply-adds of the pyramid": f"{counts.neck_macs / 1e9:.1f} G",
        }
        | (_step_rows(taken) if taken else {}),
    )


def _step(model: str, classes: int, width: int, options: dict[str, Any], size: tuple[int, int], device: str) -> "Step":
    """Train one step; BatchNorm of the random backbone takes the image's statistics, else nothing stays finite."""
    from drfpn import build_detector
    from drfpn.training.trial_step import step

    sides: dict[str, Any] = {"min_size": min(size), "max_size": max(size)}
    detector = build_detector(model, classes, width=width, neck_options=options, norm_eval=False, **sides)
    return step(detector.to(choose_device(device)), *size)


def _step_rows(taken: "Step") -> dict[str, str]:
    return {
        "one training step": f"{taken.seconds:.1f} s, loss {taken.loss:.3g}",
        "peak memory": f"{taken.peak_gib:.1f} GiB" if taken.peak_gib else "not known",
        "parameters without a gradient": ", ".join(taken.without) or "none",
    }


def models(
    paper: Annotated[bool, typer.Option("--paper", help="Print Table 1 of the paper and what of it is here.")] = False,
    json: Json = False,
) -> None:
    """List the models; any timm backbone with maps at strides 4 to 32 may stand in the middle as well."""
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
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{len(names)} models", title_justify="left")
    for column in ("model", "detector", "backbone (timm)", "pyramid"):
        table.add_column(column, no_wrap=True)
    for name in names:
        detector, body, neck = parse_name(name)
        table.add_row(name, detector, (BACKBONES | PLAIN_BACKBONES)[body], neck)
    Console().print(table)
    typer.echo("Other backbones go by their timm name, such as faster_rcnn_mobilenetv3_large_100_drfpn.")


def _print_paper(json: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    from drfpn.ablations.table1 import TABLE, trainable_parameters

    counts = trainable_parameters()
    if json:
        print_json({"rows": [row._asdict() | {"params": counts.get(row.model or "")} for row in TABLE]})
        return
    table = Table(box=None, padding=(0, 1, 0, 0), collapse_padding=True, pad_edge=False)
    for column in ("method", "backbone", "plan", "name here"):
        table.add_column(column, no_wrap=True)
    for column in ("AP", "AP50", "AP75", "S", "M", "L", "params"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("here", no_wrap=True)
    for row in TABLE:
        here = ("not built yet", "-", "-")
        if row.model:
            here = (row.model, f"{counts[row.model] / 1e6:.2f}", row.done[-1])
        table.add_row(row.method, row.backbone, row.schedule, here[0], *_numbers(row.box), *here[1:])
        if row.mask:
            table.add_row("  its masks", "", "", "", *_numbers(row.mask))
    console = Console(highlight=False, width=max(120, Console().width))
    console.print("Table 1 of the paper: AP in % on COCO test-dev, as published")
    console.print(table)
    console.print(
        "* trained by the paper's authors; params: millions that learn, counted now (80 classes, release convention).\n"
        "here: the last of built, counted, stepped (one step of training at full size); no AP was measured here."
    )
    for method, options in {row.method: row.options for row in TABLE if row.options}.items():
        said = ", ".join(f"{key}={value}" for key, value in options.items())
        console.print(f"{method} also sets {said} (-o detector_options.KEY=VALUE).", highlight=False)


def _numbers(values: tuple[float, ...]) -> list[str]:
    """Write COCO's six numbers; a dash where there is none."""
    return [f"{value:.1f}" for value in values] + ["-"] * (6 - len(values))
