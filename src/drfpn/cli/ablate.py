"""``drfpn ablate``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drfpn.cli.common import DATA_HELP, Device, Json, choose_device, counting, print_json
from drfpn.utils.errors import UserError

if TYPE_CHECKING:
    from drfpn.ablations.summary import Summary
    from drfpn.ablations.tables import Table

TURNS = 7
"""Of the timing."""


def ablate(
    table: Annotated[
        str | None, typer.Argument(help="table2 to table7, pyramids, census, rivals; none: list them.")
    ] = None,
    data: Annotated[str | None, typer.Option(help=DATA_HELP, metavar="DATA", show_default=False)] = None,
    scale: Annotated[str, typer.Option(help="'small' (two CPU cores) or 'paper'.")] = "small",
    model: Annotated[
        str | None, typer.Option(metavar="DETECTOR_BACKBONE", help="Such as retinanet_lite0; default: Faster R-CNN.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each row, a seed each.")] = 1,
    first_seed: Annotated[int, typer.Option(min=0, help="The first of them; the others follow it.")] = 0,
    rows: Annotated[
        str | None, typer.Option(metavar="ROW,ROW,...", help="These rows alone, and the first, the baseline.")
    ] = None,
    schedule: Annotated[str | None, typer.Option(help="The paper's '1x' (12 epochs) or '2x' (24).")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs; the rate drops at 8/12 and 11/12.")] = None,
    override: Annotated[
        list[str] | None, typer.Option("-o", "--override", metavar="KEY=VALUE", help="Any setting of a run.")
    ] = None,
    convention: Annotated[
        str | None, typer.Option(help="Of DRFPN in rows that do not say: 'bounded' (default), 'paper' or 'release'.")
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs side by side; default: one a device.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where runs and tables are; default: in runs/.")] = None,
    draw: Annotated[bool, typer.Option("--draw", help="Train nothing: write the tables from what is there.")] = False,
    turns: Annotated[int, typer.Option(min=0, help="Measurements of each row's time; 0: leave times out.")] = TURNS,
    list_rows: Annotated[bool, typer.Option("--list", help="List the rows and what is done, and stop.")] = False,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Train the rows of one of the paper's tables and compare them, with intervals over images and seeds.

    It may be stopped at any moment; the same command goes on.

    Example: drfpn ablate table2 --data path/to/dataset --seeds 3 --jobs 2
    """
    from drfpn.ablations.ablation import Ablation
    from drfpn.ablations.plan import plan
    from drfpn.ablations.runner import places
    from drfpn.ablations.tables import choose_rows, find_table
    from drfpn.data import open_dataset
    from drfpn.utils.console import say

    if table is None:
        _print_tables(json)
        return
    chosen = choose_rows(find_table(table), [row.strip() for row in rows.split(",")] if rows else [])
    if data is None:
        if not list_rows:
            raise UserError("Say which images to train on: --data.", exit_code=2)
        _print_rows(chosen, json)
        return
    settings = {"scale": scale, "model": model, "schedule": schedule, "epochs": epochs, "convention": convention}
    runs = plan(chosen, data, seeds=range(first_seed, first_seed + seeds), overrides=override or (), **settings)  # type: ignore[arg-type]
    config = runs[0].config
    with counting(f"reading {config.val_split}") as progress:
        val_set = open_dataset(data, config.val_split, on_bad=config.on_bad, masks=config.masks, progress=progress)
    name = f"table{table}" if table.isdigit() else table
    detector = config.model.removesuffix("_fpn")
    folder = out or Path("runs") / f"ablate-{detector}-{Path(data).name}"
    ablation = Ablation(folder, chosen, name, runs, val_set.ground_truth())
    say(f"{len(runs)} runs in {folder}, {len(ablation.missing)} of them to be made")
    failed: dict[str, str] = {}
    if not list_rows:
        ablation.measure(choose_device(device), turns=0)  # counts first, so that no table is without them
    if not (list_rows or draw):
        devices, threads = places(device, jobs)
        failed = ablation.train(devices=devices, threads=threads, after=lambda: ablation.write())
        ablation.measure(choose_device(device), turns)
    summary = ablation.summarise() if list_rows else ablation.write()
    if json:
        print_json({"out": str(folder), "missing": len(ablation.missing), **summary.model_dump()})
    else:
        _print(summary)
        typer.echo(f"{folder}: results.jsonl, {name}.md, {name}.csv, {name}.json, pictures {name}*.png")
    for run, said in list(failed.items())[:1]:
        raise UserError(f"{len(failed)} of {len(runs)} runs failed; {run}: {said}")


def _print(summary: "Summary") -> None:
    from rich.console import Console
    from rich.table import Table as Grid

    from drfpn.ablations.summary import cells, part_cells

    console = Console(highlight=False)
    console.width = max(console.width, 200)
    console.print(summary.title, markup=False)
    console.print(summary.about, markup=False)
    for heads, rows in (cells(summary), part_cells(summary)):
        grid = Grid(box=None, padding=(0, 1, 0, 0), pad_edge=False)
        for i, head in enumerate(heads):
            grid.add_column(head, justify="right" if i else "left", no_wrap=True)
        for row in rows:
            grid.add_row(*(cell.replace("[", r"\[") for cell in row))
        if rows:
            console.print(grid)


def _print_tables(json: bool) -> None:
    from drfpn.ablations.tables import TABLES

    if json:
        print_json({name: {"title": t.title, "rows": [row.key for row in t.rows]} for name, t in TABLES.items()})
        return
    for name, table in TABLES.items():
        typer.echo(f"{name:9} {table.title}, {len(table.rows)} rows")
    typer.echo("\n'drfpn ablate TABLE --list' lists the rows of one; 'drfpn ablate TABLE --data DATA' trains them.")


def _print_rows(table: "Table", json: bool) -> None:
    from drfpn.ablations.tables import NECK_CONFIGS

    if json:
        rows = [row._asdict() | NECK_CONFIGS[row.key]._asdict() for row in table.rows]
        print_json({"title": table.title, "rows": rows})
        return
    from rich.console import Console
    from rich.table import Table as Grid

    grid = Grid(title=table.title, title_justify="left")
    for head in ("row", "title", "pyramid", "its keywords", "paper's AP"):
        grid.add_column(head, no_wrap=head != "its keywords")
    for row in table.rows:
        pyramid = NECK_CONFIGS[row.key]
        options = ", ".join(f"{key}={value!r}" for key, value in pyramid.options.items())
        paper = f"{row.paper[0]:.1f}" if row.paper else "-"
        grid.add_row(row.key, row.title.replace("[", r"\["), pyramid.neck, options, paper)
    Console(width=max(Console().width, 120)).print(grid)
