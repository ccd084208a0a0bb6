"""``drfpn ablate``: training and comparison of the rows of a table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drfpn.cli.common import (
    DATA_HELP,
    Device,
    Epochs,
    Json,
    On,
    Overrides,
    Rows,
    Schedule,
    ShardOption,
    Turns,
    choose_device,
    counting,
    current_table_name,
    make_console,
    parse_distribution,
    print_json,
    split_list,
)
from drfpn.utils.errors import UsageError, UserError

if TYPE_CHECKING:
    from drfpn.ablations.ablation import Ablation
    from drfpn.ablations.plan import PlannedRun
    from drfpn.ablations.summary import Summary
    from drfpn.ablations.tables import Table
    from drfpn.utils.shard import Shard

TURNS = 7
"""Timed turns by default."""


def ablate(
    table: Annotated[
        str | None, typer.Argument(help="Table: table2 to table7, pyramids, census, baselines; default: list them.")
    ] = None,
    data: Annotated[str | None, typer.Option(help=DATA_HELP, metavar="DATA", show_default=False)] = None,
    scale: Annotated[str, typer.Option(help="Scale: 'small' (two CPU cores) or 'paper'.")] = "small",
    model: Annotated[
        str | None, typer.Option(metavar="DETECTOR_BACKBONE", help="Detector and backbone; default: Faster R-CNN.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each row, one for each seed.")] = 1,
    first_seed: Annotated[int, typer.Option(min=0, help="First seed; the others follow it.")] = 0,
    rows: Rows = None,
    schedule: Schedule = None,
    epochs: Epochs = None,
    override: Overrides = None,
    convention: Annotated[
        str | None,
        typer.Option(help="Convention of DRFPN in rows that do not set it: 'bounded' (default), 'paper' or 'release'."),
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Parallel runs; default: one for each device.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of runs and tables; default: in runs/.")] = None,
    draw: Annotated[bool, typer.Option("--draw", help="Write the tables from the finished runs; train none.")] = False,
    turns: Turns = TURNS,
    list_rows: Annotated[bool, typer.Option("--list", help="List the rows and the finished runs, and exit.")] = False,
    shard: ShardOption = None,
    on: On = "local",
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Train the rows of a table and compare them, with confidence intervals over images and seeds.

    The command can be interrupted at any time; called again, it resumes. Several machines may share the runs, if the
    folder is on a disk that all of them can write to: by --shard, or by --on ray.

    Example: drfpn ablate table2 --data path/to/dataset --seeds 3 --jobs 2
    """
    from drfpn.ablations.plan import plan
    from drfpn.ablations.tables import choose_rows, find_table
    from drfpn.utils.console import say

    if table is None:
        _print_tables(json)
        return
    part = parse_distribution(shard, on)
    table = current_table_name(table)
    selected = choose_rows(find_table(table), split_list(rows))
    if data is None:
        if not list_rows:
            raise UsageError("Give a data set to train on: --data.")
        _print_rows(selected, json)
        return
    settings = {"scale": scale, "model": model, "schedule": schedule, "epochs": epochs, "convention": convention}
    runs = plan(selected, data, seeds=range(first_seed, first_seed + seeds), overrides=override or (), **settings)  # type: ignore[arg-type]
    ablation = _open(out, selected, table, runs)
    share = "" if part is None else f", {len(ablation.missing_of(part))} by shard {part}"
    say(f"{len(runs)} runs in {ablation.out}, {len(ablation.missing)} of them to be trained{share}")
    failed = {} if list_rows else _measure(ablation, device, turns, jobs, train=not draw, shard=part, on=on)
    _report(ablation, failed, write=not list_rows, json=json)


def _open(out: Path | None, table: "Table", name: str, runs: "Sequence[PlannedRun]") -> "Ablation":
    """Open the folder of an ablation and the validation split of its data."""
    from drfpn.ablations.ablation import Ablation
    from drfpn.data import open_dataset

    config = runs[0].config
    with counting(f"reading {config.val_split}") as progress:
        val_set = open_dataset(
            config.data,
            config.val_split,
            on_bad=config.on_bad,
            images=config.images,
            crowd=config.crowd,
            masks=config.masks,
            progress=progress,
        )
    detector = config.model.removesuffix("_fpn")
    folder = out or Path("runs") / f"ablate-{detector}-{Path(config.data).name}"
    return Ablation(folder, table, name, runs, val_set.ground_truth())


def _measure(
    ablation: "Ablation",
    device: str,
    turns: int,
    jobs: int | None,
    *,
    train: bool,
    shard: "Shard | None",
    on: str,
) -> dict[str, str]:
    """Train the missing runs and measure costs here; return the error message of each failed run."""
    here = choose_device("auto" if on == "ray" else device)
    ablation.measure(here, turns=0)  # first, so that tables written during the training have the counts
    if not train:
        return {}
    failed = _train_on_ray(ablation, device, jobs) if on == "ray" else _train(ablation, device, jobs, shard)
    if shard is None or not ablation.missing:  # the last shard measures all rows, on one machine
        ablation.measure(here, turns)
    return failed


def _train(ablation: "Ablation", device: str, jobs: int | None, shard: "Shard | None") -> dict[str, str]:
    """Train the missing runs, or those of a shard, on this machine; return the error message of each failed run."""
    from drfpn.ablations.runner import assign_devices

    devices, threads = assign_devices(device, jobs)
    return ablation.train(devices=devices, threads=threads, after=lambda: ablation.write(), shard=shard)


def _train_on_ray(ablation: "Ablation", device: str, jobs: int | None) -> dict[str, str]:
    """Train the missing runs on the nodes of a Ray cluster; return the error message of each failed run."""
    from drfpn.ablations.ray_training import RayTraining
    from drfpn.utils.ray_jobs import connect

    with connect():  # which lets tasks wait until a node is free
        slots = [device] * (jobs or max(1, len(ablation.missing)))
        return ablation.train(devices=slots, threads=None, after=lambda: ablation.write(), start=RayTraining)


def _report(ablation: "Ablation", failed: Mapping[str, str], *, write: bool, json: bool) -> None:
    """Write and print the table.

    Raises:
        UserError: runs have failed.
    """
    summary = ablation.write() if write else ablation.summarize()
    if json:
        print_json({"out": str(ablation.out), "missing": len(ablation.missing), **summary.model_dump()})
    else:
        _print(summary)
        name = ablation.name
        typer.echo(f"{ablation.out}: results.jsonl, {name}.md, {name}.csv, {name}.json, plots {name}*.png")
    for run, message in list(failed.items())[:1]:
        raise UserError(f"{len(failed)} of {len(ablation.runs)} runs failed; {run}: {message}")


def _print(summary: "Summary") -> None:
    from rich.table import Table as Grid

    from drfpn.ablations.summary import module_gain_cells, table_cells

    console = make_console(min_width=200)
    console.print(summary.title)
    console.print(summary.about)
    for heads, rows in (table_cells(summary), module_gain_cells(summary)):
        grid = Grid(box=None, padding=(0, 1, 0, 0), pad_edge=False)
        for i, head in enumerate(heads):
            grid.add_column(head, justify="right" if i else "left", no_wrap=True)
        for row in rows:
            grid.add_row(*row)
        if rows:
            console.print(grid)


def _print_tables(json: bool) -> None:
    from drfpn.ablations.tables import TABLES

    if json:
        print_json({name: {"title": t.title, "rows": [row.key for row in t.rows]} for name, t in TABLES.items()})
        return
    for name, table in TABLES.items():
        typer.echo(f"{name:9} {table.title}, {len(table.rows)} rows")
    typer.echo("\n'drfpn ablate TABLE --list' lists the rows of a table; 'drfpn ablate TABLE --data DATA' trains them.")


def _print_rows(table: "Table", json: bool) -> None:
    from drfpn.ablations.tables import NECK_CONFIGS

    if json:
        rows = [row._asdict() | NECK_CONFIGS[row.key]._asdict() for row in table.rows]
        print_json({"title": table.title, "rows": rows})
        return
    from rich.table import Table as Grid

    grid = Grid(title=table.title, title_justify="left")
    for head in ("row", "title", "neck", "options", "paper's AP"):
        grid.add_column(head, no_wrap=head != "options")
    for row in table.rows:
        config = NECK_CONFIGS[row.key]
        options = ", ".join(f"{key}={value!r}" for key, value in config.options.items())
        paper = f"{row.paper[0]:.1f}" if row.paper else "-"
        grid.add_row(row.key, row.title, config.neck, options, paper)
    make_console(min_width=120).print(grid)
