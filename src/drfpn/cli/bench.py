"""``drfpn bench``."""

from typing import TYPE_CHECKING, Annotated

import typer

from drfpn.cli.common import Device, Json, choose_device, parse_size, print_json

if TYPE_CHECKING:
    from drfpn.experiments.runtime import Line
    from drfpn.experiments.timing import Ratio


def bench(
    what: Annotated[
        str, typer.Argument(help="A table: table7 is the paper's of runtime, table2 to table6 and 'pyramids' others.")
    ] = "table7",
    model: Annotated[str, typer.Option(metavar="DETECTOR_BACKBONE", help="What carries the pyramids.")] = (
        "faster_rcnn_r50"
    ),
    size: Annotated[str, typer.Option(help="HEIGHTxWIDTH of the image.")] = "800x1280",
    rows: Annotated[
        str | None, typer.Option(metavar="ROW,ROW,...", help="These rows alone, and the first, the baseline.")
    ] = None,
    turns: Annotated[int, typer.Option(min=0, help="Measurements of each row; 0: counts alone.")] = 5,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Print what the pyramids of a table cost: parameters, multiply-adds and times, beside the paper's.

    The models take their turns in one process, so their ratios hold on a busy machine too.
    """
    import torch

    from drfpn.experiments.runtime import measure_table
    from drfpn.experiments.tables import choose_rows, find_table

    table = choose_rows(find_table(what), [row.strip() for row in rows.split(",")] if rows else [])
    height_width = parse_size(size)
    where = choose_device(device)
    lines = measure_table(table, model=model, size=height_width, turns=turns, device=where)
    if json:
        machine = {"device": str(where), "threads": torch.get_num_threads(), "torch": torch.__version__}
        measured = [line.model_dump() for line in lines]
        print_json({"model": model, "size": size, "turns": turns, "machine": machine, "rows": measured})
        return
    _print(lines, table.title, f"{model}, {size}, 80 classes; {where}, {torch.get_num_threads()} threads")


def _print(lines: "list[Line]", title: str, about: str) -> None:
    from rich.console import Console
    from rich.table import Table

    grid = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    grid.add_column("", no_wrap=True)
    published = any(line.paper for line in lines[1:])
    paper = ["paper"] if published else []
    for head in ("params M", *paper, "GMACs", "as the paper counts", *paper):
        grid.add_column(head, justify="right")
    for head in ("training step", *paper, "inference", *paper):
        grid.add_column(head, justify="right", no_wrap=True)
    for line in lines:
        grid.add_row(line.title.replace("[", r"\["), *_cells(line, lines[0], published))
    console = Console(highlight=False)
    console.width = max(console.width, 150)
    console.print(title, markup=False)
    console.print(about)
    console.print(grid)
    console.print(
        "Times over the first row's: median over the turns, quartiles in brackets, seconds behind.\n"
        "As the paper counts: transposed convolutions at the size they write, and biases, BatchNorm, ReLU and pooling\n"
        "too; the paper cuts to whole numbers."
    )


def _cells(line: "Line", first: "Line", published: bool) -> list[str]:
    from drfpn.experiments.runtime import INFERENCE_MS

    cost, paper, times = line.cost, line.paper, line.cost.times
    own = [f"{cost.params / 1e6:.2f}", f"{cost.macs / 1e9:.1f}", f"{cost.published_macs / 1e9:.1f}"]
    own += ["-", "-"] if times is None else [_ratio(times.training), _ratio(times.inference)]
    if not published:
        return own
    printed = ["-"] * 4
    if paper:
        milliseconds = INFERENCE_MS.get(line.key)
        printed = [
            f"{paper['params']:.2f}",
            f"{paper['gflops']:.0f}",
            f"{paper['seconds'] / first.paper['seconds']:.2f}x",
        ]
        printed.append("-" if milliseconds is None else f"{milliseconds / INFERENCE_MS[first.key]:.2f}x")
    params, macs, counted, training, inference = own
    return [params, printed[0], macs, counted, printed[1], training, printed[2], inference, printed[3]]


def _ratio(ratio: "Ratio") -> str:
    return f"{ratio.median:.2f}x ({ratio.low:.2f}-{ratio.high:.2f}) {ratio.seconds:.2f} s"
