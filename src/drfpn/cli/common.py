"""What several commands share: printing JSON or tables, choosing a device."""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drfpn.utils.errors import UserError

if TYPE_CHECKING:
    import torch

    from drfpn.evaluation import Metrics

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
DATA_HELP = "Folder in COCO, VOC or YOLO layout, YOLO's YAML file, or 'shapes' (synthetic)."
Data = Annotated[str, typer.Option("--data", help=DATA_HELP, metavar="DATA")]
Device = Annotated[str, typer.Option(help="'auto', 'cpu', 'cuda', 'cuda:1', ...")]


def print_json(value: Any) -> None:
    """Print ``value`` as one JSON object."""
    typer.echo(json.dumps(value))


@contextmanager
def counting(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar called ``title`` and give what advances it: how many are done, and of how many."""
    from drfpn.utils.console import bar

    with bar(title, 1) as progress:

        def advance(done: int, total: int) -> None:
            progress.set_total(total)
            if done > progress.done:
                progress.advance()

        yield advance


def choose_device(name: str) -> "torch.device":
    """Return the device called ``name``; ``auto`` is the GPU where there is one, of several this process's own."""
    import torch

    from drfpn.utils import distributed

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type == "cuda" and torch.cuda.is_available():
            here = torch.cuda.device_count(), distributed.local_rank(), distributed.local_world_size()
            device = torch.device("cuda", choose_gpu(device.index, *here))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"Device '{name}' is not there: {str(error).splitlines()[0]}", exit_code=2) from error
    return device


def visible_devices_of_one() -> bool:
    """Say whether this process was told to see a single GPU, as some launchers tell each of several processes."""
    return len([part for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part.strip()]) == 1


def choose_gpu(wanted: int | None, count: int, local_rank: int, started: int) -> int:
    """Return the number of the GPU that this process takes.

    Args:
        wanted: the number that the user gave, if any.
        count: GPUs of this machine.
        local_rank: number of this process on this machine.
        started: processes that train together on this machine.

    Raises:
        UserError: there are fewer GPUs than processes, or one GPU was given for several processes.
    """
    if count == 1 and visible_devices_of_one():
        return 0  # each process was given a GPU of its own to see
    if started > count:
        raise UserError(
            f"{started} processes were started on this machine, which has {count} GPU{'s' * (count != 1)}: start at "
            "most one process a GPU, or take --device cpu.",
            exit_code=2,
        )
    if wanted is None:
        return local_rank
    if started > 1:
        raise UserError(
            f"--device cuda:{wanted} is one GPU for {started} processes: take --device cuda, which gives each its own.",
            exit_code=2,
        )
    return wanted


def reading_processes(device: "torch.device") -> int:
    """Return how many processes read images beside a detector: none on a CPU, which they would take the cores of."""
    return 0 if device.type == "cpu" else min(4, max(0, (os.cpu_count() or 1) - 1))


def parse_size(text: str) -> tuple[int, int]:
    """Read ``HEIGHTxWIDTH`` in pixels."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None or min(int(match[1]), int(match[2])) < 32:
        raise UserError(
            f"--size must be HEIGHTxWIDTH of at least 32 pixels, such as 800x1280, not '{text}'.", exit_code=2
        )
    return int(match[1]), int(match[2])


def print_metrics(metrics: "Metrics") -> None:
    """Print COCO's numbers of boxes and, where there are some, of masks as tables: all in all, then by class."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print(
        f"COCO's numbers in %, {metrics.images} images of '{metrics.split}', "
        f"{metrics.detections} detections ({metrics.engine})"
    )
    kinds = {"boxes": (metrics.box, metrics.per_class)}
    if metrics.mask is not None and metrics.mask_per_class is not None:
        kinds["masks"] = metrics.mask, metrics.mask_per_class
    table, by_class = Table(), Table()
    if len(kinds) > 1:
        table.add_column("of")
    by_class.add_column("class")
    for name in list(metrics.box)[:6]:
        table.add_column(name, justify="right")
    for kind, (numbers, _) in kinds.items():
        of = [kind] if len(kinds) > 1 else []
        table.add_row(*of, *(percent(numbers[name]) for name in list(numbers)[:6]))
        for name in ("AP", "AP50"):
            by_class.add_column(" ".join([name, *of]), justify="right")
    console.print(table)
    for name in metrics.per_class:
        rows = [per_class[name] for _, per_class in kinds.values()]
        by_class.add_row(name, *(percent(row[key]) for row in rows for key in ("AP", "AP50")))
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
