"""What several commands share: printing JSON or tables, choosing a device."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drfpn.errors import UserError

if TYPE_CHECKING:
    import torch

    from drfpn.engine import Metrics

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
Data = Annotated[
    str, typer.Option("--data", help="Folder in COCO or VOC layout, or 'shapes' (synthetic).", metavar="DATA")
]
Device = Annotated[str, typer.Option(help="'auto', 'cpu', 'cuda', 'cuda:1', ...")]


def print_json(value: Any) -> None:
    """Print ``value`` as one JSON object."""
    typer.echo(json.dumps(value))


def choose_device(name: str) -> "torch.device":
    """Return the device called ``name``; ``auto`` is the GPU where there is one."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"Device '{name}' is not there: {str(error).splitlines()[0]}", exit_code=2) from error
    return device


def print_metrics(metrics: "Metrics") -> None:
    """Print COCO's numbers as tables: all twelve, then AP by class."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print(
        f"COCO's numbers in %, {metrics.images} images of '{metrics.split}', "
        f"{metrics.detections} detections ({metrics.engine})"
    )
    table = Table()
    for name in list(metrics.box)[:6]:
        table.add_column(name, justify="right")
    table.add_row(*(percent(metrics.box[name]) for name in list(metrics.box)[:6]))
    console.print(table)
    by_class = Table()
    by_class.add_column("class")
    by_class.add_column("AP", justify="right")
    by_class.add_column("AP50", justify="right")
    for name, numbers in metrics.per_class.items():
        by_class.add_row(name, percent(numbers["AP"]), percent(numbers["AP50"]))
    console.print(by_class)


def percent(value: float) -> str:
    """Write a fraction in percent; a dash where the data has nothing to measure (-1)."""
    return "-" if value < 0 else f"{100 * value:.1f}"


def print_rows(title: str, rows: Mapping[str, str]) -> None:
    """Print names and values in two columns."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print(title)
    table = Table(show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)
