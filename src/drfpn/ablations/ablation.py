"""Ablation: train the missing runs of a table, store their results and write the table."""

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from drfpn.ablations.costs import Cost, measure_costs
from drfpn.ablations.plan import PlannedRun
from drfpn.ablations.plots import draw_curves, draw_summary
from drfpn.ablations.runner import TrainingProcess, train_runs
from drfpn.ablations.store import Store, dataset_digest, read_record
from drfpn.ablations.summary import Summary, summarize, to_csv, to_markdown
from drfpn.ablations.tables import Table
from drfpn.ablations.training_job import TrainingJob
from drfpn.utils.io import write_atomically
from drfpn.utils.shard import Shard

_COSTS = TypeAdapter(dict[str, Cost])


class Ablation:
    """Runs of a table in a folder with ``results.jsonl``, ``costs.json``, ``runs/`` and the written tables.

    Several tables may share a folder; a row that occurs in two of them is trained once. Several processes may train
    runs of a folder, each a shard of them.

    Args:
        out: folder.
        table: table to measure.
        name: name of the table and of its files.
        runs: runs of the table.
        ground_truth: COCO dict of the validation split.

    Raises:
        UserError: ``results.jsonl`` holds one of the runs, trained with other settings or data.
    """

    def __init__(
        self, out: Path, table: Table, name: str, runs: Sequence[PlannedRun], ground_truth: Mapping[str, Any]
    ) -> None:
        self.out, self.table, self.name, self.runs, self.ground_truth = out, table, name, runs, ground_truth
        self.store = Store(out / "results.jsonl")
        self.store.check([(run.row, run.config) for run in runs], dataset_digest(ground_truth))

    @property
    def missing(self) -> list[PlannedRun]:
        """Runs without a stored result."""
        return self.missing_of(None)

    def missing_of(self, shard: Shard | None) -> list[PlannedRun]:
        """Return the runs of a shard without a stored result.

        Args:
            shard: the shard; ``None`` for all runs.
        """
        runs = self.runs if shard is None else shard.every_nth(self.runs)
        return [run for run in runs if (run.row, run.config.seed) not in self.store.records]

    def train(
        self,
        *,
        devices: Sequence[str],
        threads: int | None,
        after: Callable[[], object],
        shard: Shard | None = None,
        start: Callable[[PlannedRun, Path, str, int | None], TrainingJob] = TrainingProcess,
    ) -> dict[str, str]:
        """Train the missing runs.

        Args:
            devices: as for ``train_runs``.
            threads: as for ``train_runs``.
            after: called after each run, when its result is stored.
            shard: which of the runs; ``None`` for all.
            start: as for ``train_runs``.

        Returns:
            The error message of each run that failed, by name.
        """

        def store(run: PlannedRun, folder: Path) -> None:
            self.store.add(read_record(folder, run.row, self.ground_truth, versions()))
            after()

        missing = self.missing_of(shard)
        return train_runs(missing, self.out / "runs", store, devices=devices, threads=threads, start=start)

    def measure(self, device: torch.device, turns: int) -> None:
        """Measure parameters, multiply-adds and, with turns, time and memory of the rows that lack them.

        Args:
            device: device to time on.
            turns: timed turns; 0 for neither time nor memory.
        """
        costs = self.costs()
        run_of_row = {run.row: run for run in reversed(self.runs)}
        rows = [row.key for row in self.table.rows]
        missing = [row for row in rows if row not in costs or (turns and costs[row].times is None)]
        if not missing:
            return
        todo = [run_of_row[row] for row in rows if row == rows[0] or row in missing]
        new = measure_costs(todo, len(self.ground_truth["categories"]), device=device, turns=turns)
        with self.store.locked():
            costs = {**self.costs(), **{row: new[row] for row in missing}}
            write_atomically(self.out / "costs.json", _COSTS.dump_json(costs, indent=2))

    def costs(self) -> dict[str, Cost]:
        """Return the costs measured so far, by row."""
        file = self.out / "costs.json"
        return _COSTS.validate_json(file.read_bytes()) if file.exists() else {}

    def summarize(self) -> Summary:
        """Return the table with the results so far."""
        config = self.runs[0].config
        detector = config.model.removesuffix("_fpn")
        size = f"{config.min_size} px, width {config.width}, batch {config.batch_size}"
        images = len(self.ground_truth["images"])
        about = (
            f"{detector} on {Path(config.data).name}, {images} images of '{config.val_split}'; "
            f"{config.epochs} epochs, {size}, learning rate {config.lr:g}"
        )
        options = {run.row: run.config.neck_options for run in self.runs}
        if (convention := options.get("drfpn", {}).get("convention", "paper")) != "paper":
            about += f"; DRFPN {convention}"
        runs = self.store.select(row.key for row in self.table.rows)
        seeds = {run.config.seed for run in self.runs}
        chosen = {row: {seed: run for seed, run in own.items() if seed in seeds} for row, own in runs.items()}
        return summarize(self.table, chosen, self.costs(), about)

    def write(self) -> Summary:
        """Write the table as JSON, Markdown, CSV and plots, and return it."""
        with self.store.locked():
            summary = self.summarize()
            texts = {
                "json": summary.model_dump_json(indent=2) + "\n",
                "md": to_markdown(summary),
                "csv": to_csv(summary),
            }
            for ending, text in texts.items():
                write_atomically(self.out / f"{self.name}.{ending}", text.encode())
            draw_summary(summary, self.out / f"{self.name}.png")
            if any(len(line.curve) > 1 for line in summary.lines):
                draw_curves(summary, self.out / f"{self.name}-curves.png")
        return summary


def versions() -> dict[str, str]:
    """Return the versions of the packages that a run depends on."""
    return {name: _version(name) for name in ("drfpn", "torch", "torchvision", "timm")}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
