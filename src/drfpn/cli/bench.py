"""``drfpn bench``."""

import re
from typing import TYPE_CHECKING, Annotated

import typer

from drfpn.cli.common import Device, Json, choose_device, print_json
from drfpn.errors import UserError, nearest

if TYPE_CHECKING:
    from drfpn.experiments.runtime import Line
    from drfpn.experiments.timing import Ratio

WHAT = ("table7",)


def bench(
    what: Annotated[str, typer.Argument(help="table7: what DRFPN and its context modules cost beside FPN.")] = "table7",
    model: Annotated[str, typer.Option(metavar="DETECTOR_BACKBONE", help="What carries the pyramids.")] = (
        "faster_rcnn_r50"
    ),
    size: Annotated[str, typer.Option(help="HEIGHTxWIDTH of the image.")] = "800x1280",
    turns: Annotated[int, typer.Option(min=0, help="Measurements of each row; 0: counts alone.")] = 5,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Print Table 7 of the paper and section 4.6: parameters, multiply-adds and times, beside the paper's.

    The models take their turns in one process, so their ratios hold on a busy machine too.
    """
    import torch

    from drfpn.experiments.runtime import table7

    if what not in WHAT:
        raise UserError(f"There is no benchmark '{what}': choose {', '.join(WHAT)}.{nearest(what, WHAT)}", exit_code=2)
    match = re.fullmatch(r"(\d+)x(\d+)", size)
    if match is None or min(int(match[1]), int(match[2])) < 32:
        raise UserError(
            f"--size must be HEIGHTxWIDTH of at least 32 pixels, such as 800x1280, not '{size}'.", exit_code=2
        )
    where = choose_device(device)
    lines = table7(model=model, size=(int(match[1]), int(match[2])), turns=turns, device=where)
    if json:
        machine = {"device": str(where), "threads": torch.get_num_threads(), "torch": torch.__version__}
        rows = [line.model_dump() for line in lines]
        print_json({"model": model, "size": size, "turns": turns, "machine": machine, "rows": rows})
        return
    _print(lines, f"{model}, {size}, 80 classes, release convention; {where}, {torch.get_num_threads()} threads")


def _print(lines: "list[Line]", about: str) -> None:
    from rich.console import Console
    from rich.table import Table

    from drfpn.experiments.runtime import INFERENCE_MS

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("", no_wrap=True)
    heads = [
        "params M",
        "paper",
        "GMACs",
        "as the paper counts",
        "paper",
        "training step",
        "paper",
        "inference",
        "paper",
    ]
    for head in heads:
        table.add_column(head, justify="right")
    first = lines[0].paper["seconds"]
    for line in lines:
        cost, paper = line.cost, line.paper
        times = cost.times
        milliseconds = INFERENCE_MS.get(line.key)
        table.add_row(
            line.title,
            f"{cost.params / 1e6:.2f}",
            f"{paper['params']:.2f}",
            f"{cost.macs / 1e9:.1f}",
            f"{cost.published_macs / 1e9:.1f}",
            f"{paper['gflops']:.0f}",
            "-" if times is None else _ratio(times.training),
            f"{paper['seconds'] / first:.2f}x",
            "-" if times is None else _ratio(times.inference),
            "-" if milliseconds is None else f"{milliseconds / INFERENCE_MS['fpn']:.2f}x",
        )
    console = Console(highlight=False)
    console.width = max(console.width, 150)
    console.print("Table 7 and section 4.6 of the paper (context modules, runtime)")
    console.print(about)
    console.print(table)
    console.print(
        "Times over FPN's: median over the turns, quartiles in brackets, seconds behind.\n"
        "As the paper counts: transposed convolutions at the size they write, and biases, BatchNorm, ReLU and pooling\n"
        "too; the paper cuts to whole numbers."
    )


def _ratio(ratio: "Ratio") -> str:
    return f"{ratio.median:.2f}x ({ratio.low:.2f}-{ratio.high:.2f}) {ratio.seconds:.2f} s"
