"""An ablation: plan, train what is missing, keep it, and write the table in every form."""

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from drfpn.ablations.costs import Cost, measure_costs
from drfpn.ablations.plan import Planned
from drfpn.ablations.plots import draw_curves, draw_summary
from drfpn.ablations.runner import make_runs
from drfpn.ablations.store import Store, digest, read_record
from drfpn.ablations.summary import Summary, summarise, to_csv, to_markdown
from drfpn.ablations.tables import Table
from drfpn.utils.io import write_atomically

_COSTS = TypeAdapter(dict[str, Cost])


class Ablation:
    """The folder of an ablation: ``results.jsonl``, ``costs.json``, ``runs/`` and the tables.

    Several tables may share it: a pyramid that two of them have is trained once.

    Args:
        out: the folder.
        table: to measure.
        name: of the table, and of its files.
        runs: that it needs.
        truth: ground truth of the validation split.
    """

    def __init__(self, out: Path, table: Table, name: str, runs: Sequence[Planned], truth: Mapping[str, Any]) -> None:
        self.out, self.table, self.name, self.runs, self.truth = out, table, name, runs, truth
        self.store = Store(out / "results.jsonl")
        self.store.check([(run.row, run.config) for run in runs], digest(truth))

    @property
    def missing(self) -> list[Planned]:
        """Runs that are still to be made or finished."""
        return [run for run in self.runs if (run.row, run.config.seed) not in self.store.records]

    def train(self, *, devices: Sequence[str], threads: int | None, after: Callable[[], object]) -> dict[str, str]:
        """Make the missing runs; returns those that failed and what they said.

        Args:
            devices: as of ``make_runs``.
            threads: as of ``make_runs``.
            after: called when a run is done and kept.
        """

        def keep(run: Planned, folder: Path) -> None:
            self.store.add(read_record(folder, run.row, self.truth, versions()))
            after()

        return make_runs(self.missing, self.out / "runs", keep, devices=devices, threads=threads)

    def measure(self, device: torch.device, turns: int) -> None:
        """Count and time the pyramids of this table where that was not done yet."""
        costs = self.costs()
        first_of = {run.row: run for run in reversed(self.runs)}  # the first run of each row
        rows = [row.key for row in self.table.rows]
        lacking = [row for row in rows if row not in costs or (turns and costs[row].times is None)]
        if not lacking:
            return
        todo = [first_of[row] for row in rows if row == rows[0] or row in lacking]
        new = measure_costs(todo, len(self.truth["categories"]), device=device, turns=turns)
        costs = {**costs, **{row: new[row] for row in lacking}}
        self.out.mkdir(parents=True, exist_ok=True)
        write_atomically(self.out / "costs.json", _COSTS.dump_json(costs, indent=2))

    def costs(self) -> dict[str, Cost]:
        """Return what was counted and timed so far."""
        file = self.out / "costs.json"
        return _COSTS.validate_json(file.read_bytes()) if file.exists() else {}

    def summarise(self) -> Summary:
        """Put what is there so far into a table."""
        config = self.runs[0].config
        detector = config.model.removesuffix("_fpn")
        size = f"{config.min_size} px, width {config.width}, batch {config.batch_size}"
        about = (
            f"{detector} on {Path(config.data).name}, {len(self.truth['images'])} images of '{config.val_split}'; "
            f"{config.epochs} epochs, {size}, learning rate {config.lr:g}"
        )
        options = {run.row: run.config.neck_options for run in self.runs}
        if (convention := options.get("drfpn", {}).get("convention", "paper")) != "paper":
            about += f"; DRFPN {convention}"
        runs = self.store.of(row.key for row in self.table.rows)
        wanted = {run.config.seed for run in self.runs}
        chosen = {row: {seed: run for seed, run in own.items() if seed in wanted} for row, own in runs.items()}
        return summarise(self.table, chosen, self.costs(), about)

    def write(self) -> Summary:
        """Write the table as JSON, Markdown, CSV and pictures, and return it."""
        summary = self.summarise()
        self.out.mkdir(parents=True, exist_ok=True)
        texts = {"json": summary.model_dump_json(indent=2) + "\n", "md": to_markdown(summary), "csv": to_csv(summary)}
        for ending, text in texts.items():
            write_atomically(self.out / f"{self.name}.{ending}", text.encode())
        draw_summary(summary, self.out / f"{self.name}.png")
        if any(len(line.curve) > 1 for line in summary.lines):
            draw_curves(summary, self.out / f"{self.name}-curves.png")
        return summary


def versions() -> dict[str, str]:
    """Return the versions of what a run depends on."""
    return {name: _version(name) for name in ("drfpn", "torch", "torchvision", "timm")}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
