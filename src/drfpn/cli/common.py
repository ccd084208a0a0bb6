"""Functions of several commands: printing JSON and tables, choosing a device."""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drfpn.cli.deprecated import rename_table
from drfpn.utils.errors import UsageError
from drfpn.utils.formatting import percent, printable

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from drfpn.evaluation import Metrics
    from drfpn.utils.shard import Shard

PLACES = {"local": "this machine", "ray": "the nodes of a Ray cluster"}
"""Where work that is divided into processes can run."""

Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object on stdout.")]
DATA_HELP = "Data set: a folder or file in COCO, VOC, YOLO or another format of docs/data.md, or 'shapes' (synthetic)."
Data = Annotated[str, typer.Option("--data", help=DATA_HELP, metavar="DATA")]
Device = Annotated[str, typer.Option(help="Device: 'auto', 'cpu', 'cuda', 'cuda:1', ...")]

RUN_HELP = "Run folder, weights (.safetensors), or hf:USER/NAME[@REVISION] for a run on the Hugging Face Hub."

Images = Annotated[
    str | None,
    typer.Option(metavar="FOLDER", help="Folder of the images, if DATA is annotated in one file for each split."),
]
Epochs = Annotated[int | None, typer.Option(min=1, help="Epochs; the learning rate drops at 8/12 and 11/12.")]
OnBad = Annotated[str, typer.Option(help="Invalid images and boxes: 'error', 'skip' or 'fix'.")]
On = Annotated[str, typer.Option(help="Where to run: 'local', or 'ray' on the nodes of a Ray cluster (extra ray).")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("-o", "--override", metavar="KEY=VALUE", help="A setting, as in config.yaml; may be repeated."),
]
Rows = Annotated[str | None, typer.Option(metavar="ROW,ROW,...", help="Only these rows and the first, the baseline.")]
Schedule = Annotated[str | None, typer.Option(help="Schedule of the paper: '1x' (12 epochs) or '2x' (24).")]
ShardOption = Annotated[
    str | None,
    typer.Option("--shard", metavar="K/N", help="Do only the K-th of N parts, of which each is done by a process."),
]
Tile = Annotated[
    int | None, typer.Option(min=32, help="Detect in overlapping tiles of N pixels, for small objects.", metavar="N")
]
Overlap = Annotated[float, typer.Option(min=0, max=0.9, help="Part of a tile's side in common with the next tile.")]
TileFull = Annotated[bool, typer.Option(help="With --tile, also detect in the whole image, for large objects.")]
Turns = Annotated[
    int, typer.Option(min=0, help="Timed turns, in each of which every row is timed once; 0: no times, no memory.")
]


def current_table_name(name: str) -> str:
    """Return the name of a table of ablations, with a note on stderr where a former name was given.

    Args:
        name: name, former name or number of the table.
    """
    name, note = rename_table(name)
    if note is not None:
        typer.echo(note, err=True)
    return f"table{name}" if name.isdigit() else name


def parse_distribution(shard: str | None, on: str) -> "Shard | None":
    """Return the shard that this process is to do, ``None`` for all of the work.

    Args:
        shard: ``K/N`` or ``None``.
        on: where to run.

    Raises:
        UsageError: no shard, an unknown place, or a shard on Ray.
        UserError: Ray is not installed.
    """
    from drfpn.utils.choices import choose
    from drfpn.utils.ray_jobs import import_ray
    from drfpn.utils.shard import Shard

    choose("on", on, PLACES)
    if on == "ray":
        import_ray()
    part = None if shard is None else Shard.parse(shard)
    if part is not None and on != "local":
        raise UsageError(f"`shard` and `on='{on}'` cannot be combined: Ray divides the work itself.")
    return part


def split_list(text: str | None) -> list[str]:
    """Return the words of a list with commas.

    Args:
        text: such as ``"fpn, drfpn"``; ``None`` for an empty list.
    """
    return [word.strip() for word in text.split(",")] if text else []


def print_json(value: Any) -> None:
    """Print a value as one JSON object.

    Args:
        value: dict that ``json`` can write.
    """
    typer.echo(json.dumps(value))


@contextmanager
def counting(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar.

    Args:
        title: text before the bar.

    Yields:
        A function of the number of finished items and the total that updates the bar.
    """
    from drfpn.utils.console import bar

    with bar(title, 1) as progress:

        def advance(done: int, total: int) -> None:
            progress.set_total(total)
            if done > progress.done:
                progress.advance()

        yield advance


def choose_device(name: str) -> "torch.device":
    """Return a device by name.

    Args:
        name: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...; ``"auto"`` is the GPU if there is one. Of several processes,
            each takes the GPU of its local rank.

    Raises:
        UsageError: the device does not exist.
    """
    import torch

    from drfpn.utils import distributed

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type == "cuda" and torch.cuda.is_available():
            ranks = distributed.local_rank(), distributed.local_world_size()
            device = torch.device("cuda", choose_gpu(device.index, torch.cuda.device_count(), *ranks))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"There is no device '{name}': {str(error).splitlines()[0]}") from error
    return device


def has_single_visible_gpu() -> bool:
    """Return whether ``CUDA_VISIBLE_DEVICES`` names one GPU, which some launchers set for each of several processes."""
    return len([part for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part.strip()]) == 1


def choose_gpu(index: int | None, count: int, local_rank: int, local_world_size: int) -> int:
    """Return the index of the GPU of this process.

    Args:
        index: index given by the user, if any.
        count: number of GPUs of this machine.
        local_rank: rank of this process on this machine.
        local_world_size: number of processes on this machine.

    Raises:
        UsageError: there are fewer GPUs than processes, or an index is given for several processes.
    """
    if count == 1 and has_single_visible_gpu():
        return 0  # each process has its own visible GPU
    if local_world_size > count:
        raise UsageError(
            f"{local_world_size} processes were started on this machine, which has {count} GPU{'s' * (count != 1)}: "
            "start at most one process for each GPU, or use --device cpu."
        )
    if index is None:
        return local_rank
    if local_world_size > 1:
        raise UsageError(
            f"--device cuda:{index} is one GPU for {local_world_size} processes: use --device cuda, which gives each "
            "process its own."
        )
    return index


def loader_workers(device: "torch.device") -> int:
    """Return the number of worker processes that load images for a detector.

    Args:
        device: device of the detector; a CPU gets none, since workers would compete for its cores.
    """
    return 0 if device.type == "cpu" else min(4, max(0, (os.cpu_count() or 1) - 1))


def parse_size(text: str) -> tuple[int, int]:
    """Return height and width in pixels.

    Args:
        text: ``HEIGHTxWIDTH``.

    Raises:
        UsageError: another format, or less than 32 pixels.
    """
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None or min(int(match[1]), int(match[2])) < 32:
        raise UsageError(f"--size must be HEIGHTxWIDTH of at least 32 pixels, such as 800x1280, not '{text}'.")
    return int(match[1]), int(match[2])


def make_console(min_width: int = 0) -> "Console":
    """Return a console for stdout that prints text literally: ``[...]`` is no markup, and ``:...:`` no emoji.

    Args:
        min_width: characters of a line, at least.
    """
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    console.width = max(console.width, min_width)
    return console


def print_metrics(metrics: "Metrics") -> None:
    """Print the COCO metrics of boxes and, if any, of masks, over all classes and by class.

    Args:
        metrics: result of an evaluation.
    """
    from rich.table import Table

    console = make_console()
    console.print(
        f"COCO metrics in %, {metrics.images} images of '{metrics.split}', "
        f"{metrics.detections} detections ({metrics.backend})"
    )
    if metrics.main_metric is None:
        console.print("The split has no objects, so no metric is defined.")
    kinds = {"boxes": (metrics.box, metrics.per_class)}
    if metrics.mask is not None and metrics.mask_per_class is not None:
        kinds["masks"] = metrics.mask, metrics.mask_per_class
    table, by_class = Table(), Table()
    if len(kinds) > 1:
        table.add_column("of")
    by_class.add_column("class")
    for name in list(metrics.box)[:6]:
        table.add_column(name, justify="right")
    for kind, (values, _) in kinds.items():
        of = [kind] if len(kinds) > 1 else []
        table.add_row(*of, *(percent(values[name]) for name in list(values)[:6]))
        for name in ("AP", "AP50"):
            by_class.add_column(" ".join([name, *of]), justify="right")
    console.print(table)
    for name in metrics.per_class:
        rows = [per_class[name] for _, per_class in kinds.values()]
        by_class.add_row(printable(name), *(percent(row[key]) for row in rows for key in ("AP", "AP50")))
    console.print(by_class)


def print_rows(title: str, rows: Mapping[str, str]) -> None:
    """Print names and values in two columns.

    Args:
        title: line above the columns.
        rows: value by name.
    """
    from rich.table import Table

    console = make_console()
    console.print(printable(title, None))
    table = Table(show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)
