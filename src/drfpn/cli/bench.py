"""``drfpn bench``: parameters, multiply-adds, times and memory of necks."""

from typing import TYPE_CHECKING, Annotated

import typer

from drfpn.cli.common import (
    Device,
    Json,
    Rows,
    Turns,
    choose_device,
    current_table_name,
    make_console,
    parse_size,
    print_json,
    split_list,
)

if TYPE_CHECKING:
    from drfpn.ablations.runtime import RowCost
    from drfpn.ablations.timing import TimeRatio


def bench(
    table: Annotated[
        str, typer.Argument(help="Table: table7 (runtime) or table2 to table6 of the paper, 'pyramids', 'baselines'.")
    ] = "table7",
    model: Annotated[str, typer.Option(metavar="DETECTOR_BACKBONE", help="Detector and backbone of the necks.")] = (
        "faster_rcnn_r50"
    ),
    size: Annotated[str, typer.Option(help="Height and width of the image, HEIGHTxWIDTH.")] = "800x1280",
    rows: Rows = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images of a batch, in training and in inference.")] = 1,
    turns: Turns = 5,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Print parameters, multiply-adds, times and memory of the necks of a table, beside those of the paper.

    The models are timed in turns in one process, so that a varying load of the machine affects all of them.
    """
    import torch

    from drfpn.ablations.runtime import measure_table
    from drfpn.ablations.tables import choose_rows, find_table

    selected = choose_rows(find_table(current_table_name(table)), split_list(rows))
    height_width = parse_size(size)
    target = choose_device(device)
    costs = measure_table(selected, model=model, size=height_width, turns=turns, batch_size=batch_size, device=target)
    if json:
        machine = {"device": str(target), "threads": torch.get_num_threads(), "torch": torch.__version__}
        settings = {"model": model, "size": size, "batch": batch_size, "turns": turns}
        print_json(settings | {"machine": machine, "rows": [row.model_dump() for row in costs]})
        return
    about = f"{model}, {size}, batch {batch_size}, 80 classes; {target}, {torch.get_num_threads()} threads"
    _print(costs, selected.title, about)


def _print(rows: "list[RowCost]", title: str, about: str) -> None:
    from rich.table import Table

    from drfpn.ablations.tables import PAPER_NECKS

    grid = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    grid.add_column("", no_wrap=True)
    published = all(row.key in PAPER_NECKS for row in rows) and any(row.paper for row in rows[1:])
    counts = ("params M", "paper", "GMACs", "as the paper counts", "paper")
    times = ("training step", "paper", "inference", "paper", "neck only")
    for head in (*counts, *times, "step MiB", "inference MiB"):
        if published or "paper" not in head:
            grid.add_column(head, justify="right", no_wrap=head in times)
    for row in rows:
        cells = _published_cells(row, rows[0]) if published else _cells(row)
        grid.add_row(row.title, *cells)
    console = make_console(min_width=190)
    console.print(title)
    console.print(about)
    console.print(grid)
    console.print(
        "Times relative to the first row: median over the turns, quartiles in brackets, then seconds. Memory: peak,\n"
        "without weights and gradients."
    )
    if published:
        console.print(
            "As the paper counts: transposed convolutions at the size of their output, and biases, BatchNorm, ReLU\n"
            "and pooling too; the paper rounds down."
        )


def _cells(row: "RowCost") -> list[str]:
    """Return parameters, multiply-adds, three times and two peaks of memory, as text."""
    times, memory = row.cost.times, row.cost.memory
    return [
        f"{row.cost.params / 1e6:.2f}",
        f"{row.cost.macs / 1e9:.1f}",
        *(["-"] * 3 if times is None else map(_ratio, (times.training, times.inference, times.neck))),
        *(["-"] * 2 if memory is None else (f"{memory.training:.0f}", f"{memory.inference:.0f}")),
    ]


def _published_cells(row: "RowCost", first: "RowCost") -> list[str]:
    """Return the same with the published values in between."""
    from drfpn.ablations.runtime import PUBLISHED_INFERENCE_MS

    counted = f"{row.cost.published_macs / 1e9:.1f}"
    published = ["-"] * 4
    if row.paper:
        milliseconds = PUBLISHED_INFERENCE_MS.get(row.key)
        published = [
            f"{row.paper['params']:.2f}",
            f"{row.paper['gflops']:.0f}",
            f"{row.paper['seconds'] / first.paper['seconds']:.2f}x",
            "-" if milliseconds is None else f"{milliseconds / PUBLISHED_INFERENCE_MS[first.key]:.2f}x",
        ]
    params, macs, training, inference, *others = _cells(row)
    return [params, published[0], macs, counted, published[1], training, published[2], inference, published[3], *others]


def _ratio(ratio: "TimeRatio") -> str:
    return f"{ratio.median:.2f}x ({ratio.low:.2f}-{ratio.high:.2f}) {ratio.seconds:.2f} s"
