"""``drfpn bench``."""

from typing import TYPE_CHECKING, Annotated

import typer

from drfpn.cli.common import Device, Json, choose_device, parse_size, print_json

if TYPE_CHECKING:
    from drfpn.ablations.runtime import Line
    from drfpn.ablations.timing import Ratio


def bench(
    what: Annotated[
        str, typer.Argument(help="A table: table7 is the paper's of runtime; table2 to table6, 'pyramids', 'rivals'.")
    ] = "table7",
    model: Annotated[str, typer.Option(metavar="DETECTOR_BACKBONE", help="What carries the pyramids.")] = (
        "faster_rcnn_r50"
    ),
    size: Annotated[str, typer.Option(help="HEIGHTxWIDTH of the image.")] = "800x1280",
    rows: Annotated[
        str | None, typer.Option(metavar="ROW,ROW,...", help="These rows alone, and the first, the baseline.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images at once, in training and in inference.")] = 1,
    turns: Annotated[int, typer.Option(min=0, help="Measurements of each row; 0: counts alone.")] = 5,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Print what the pyramids of a table cost: parameters, multiply-adds, times and memory, beside the paper's.

    The models take their turns in one process, so their ratios hold on a busy machine too.
    """
    import torch

    from drfpn.ablations.runtime import measure_table
    from drfpn.ablations.tables import choose_rows, find_table

    table = choose_rows(find_table(what), [row.strip() for row in rows.split(",")] if rows else [])
    height_width = parse_size(size)
    where = choose_device(device)
    lines = measure_table(table, model=model, size=height_width, turns=turns, batch=batch, device=where)
    if json:
        machine = {"device": str(where), "threads": torch.get_num_threads(), "torch": torch.__version__}
        measured = [line.model_dump() for line in lines]
        settings = {"model": model, "size": size, "batch": batch, "turns": turns}
        print_json(settings | {"machine": machine, "rows": measured})
        return
    about = f"{model}, {size}, batch {batch}, 80 classes; {where}, {torch.get_num_threads()} threads"
    _print(lines, table.title, about)


def _print(lines: "list[Line]", title: str, about: str) -> None:
    from rich.console import Console
    from rich.table import Table

    from drfpn.ablations.tables import PAPER

    grid = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    grid.add_column("", no_wrap=True)
    published = all(line.key in PAPER for line in lines) and any(line.paper for line in lines[1:])
    counts = ("params M", "paper", "GMACs", "as the paper counts", "paper")
    times = ("training step", "paper", "inference", "paper", "pyramid alone")
    for head in (*counts, *times, "step MiB", "inference MiB"):
        if published or "paper" not in head:
            grid.add_column(head, justify="right", no_wrap=head in times)
    for line in lines:
        cells = _published_cells(line, lines[0]) if published else _cells(line)
        grid.add_row(line.title.replace("[", r"\["), *cells)
    console = Console(highlight=False)
    console.width = max(console.width, 190)
    console.print(title, markup=False)
    console.print(about)
    console.print(grid)
    console.print(
        "Times over the first row's: median over the turns, quartiles in brackets, seconds behind. Memory: at its\n"
        "peak more than the weights and gradients."
    )
    if published:
        console.print(
            "As the paper counts: transposed convolutions at the size they write, and biases, BatchNorm, ReLU and\n"
            "pooling too; the paper cuts to whole numbers."
        )


def _cells(line: "Line") -> list[str]:
    """Return what was measured: parameters, multiply-adds, three times, memory of two."""
    times, memory = line.cost.times, line.cost.memory
    return [
        f"{line.cost.params / 1e6:.2f}",
        f"{line.cost.macs / 1e9:.1f}",
        *(["-"] * 3 if times is None else map(_ratio, (times.training, times.inference, times.pyramid))),
        *(["-"] * 2 if memory is None else (f"{memory.training:.0f}", f"{memory.inference:.0f}")),
    ]


def _published_cells(line: "Line", first: "Line") -> list[str]:
    """Return the same with the paper's numbers between."""
    from drfpn.ablations.runtime import INFERENCE_MS

    counted = f"{line.cost.published_macs / 1e9:.1f}"
    printed = ["-"] * 4
    if line.paper:
        milliseconds = INFERENCE_MS.get(line.key)
        printed = [
            f"{line.paper['params']:.2f}",
            f"{line.paper['gflops']:.0f}",
            f"{line.paper['seconds'] / first.paper['seconds']:.2f}x",
            "-" if milliseconds is None else f"{milliseconds / INFERENCE_MS[first.key]:.2f}x",
        ]
    params, macs, training, inference, *others = _cells(line)
    return [params, printed[0], macs, counted, printed[1], training, printed[2], inference, printed[3], *others]


def _ratio(ratio: "Ratio") -> str:
    return f"{ratio.median:.2f}x ({ratio.low:.2f}-{ratio.high:.2f}) {ratio.seconds:.2f} s"
