"""Where DRFPN trains and what it gains: FPN, PAFPN, DRFPN's conventions and simpler pyramids on six data sets.

``python experiments/census.py --data FOLDER [--what stability|ap] [--model faster_rcnn_lite0] [--sets ...] [--rows ...]
[--epochs 8] [--jobs 2]``

FOLDER holds the data sets by name; ``shapes`` is drawn on the fly. Whatever is missing is trained, in the order of
seeds, then sets, then rows; stopped at any moment, the same command goes on. Finished runs are lines of
``experiments/census/SET-MODEL/results.jsonl`` (``ap``) and of ``experiments/census/stability.jsonl``, where runs are
short and only their loss is looked at. ``python experiments/census_tables.py`` writes tables and a picture of them.
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from drfpn.ablations.ablation import versions
from drfpn.ablations.plan import plan
from drfpn.ablations.runner import make_runs, places
from drfpn.ablations.store import Store, digest, read_record
from drfpn.ablations.tables import choose_rows, find_table
from drfpn.data import open_dataset
from drfpn.training.config import RunConfig

HERE = Path(__file__).parent / "census"
SEEDS = {"raccoon": 5, "bccd": 3, "shapes": 3, "deeppcb": 3, "dsb2018": 3, "hdbpmn": 3}
"""Data sets, those first on which the form of DRFPN was chosen; runs of each row."""
RATES = {"faster_rcnn_lite0": 0.04, "retinanet_lite0": 0.04}
"""FPN's learning rate for 16 images a step."""
EPOCHS = 8
SHARED = ("first=200", "workers=0", "eval_every=0")


class Run(NamedTuple):
    """A run of the census."""

    row: str
    config: RunConfig
    group: str
    """Its folder below ``runs/``."""

    @property
    def name(self) -> str:
        """Name of its run folder."""
        return f"{self.group}/{self.row}-{self.config.seed}"


def planned(args: argparse.Namespace, name: str, rate: float, epochs: int, seeds: int, group: str) -> list[Run]:
    """List the runs on one data set."""
    table = choose_rows(find_table("census"), args.rows)
    data = name if name == "shapes" else str(args.data / name)
    overrides = [*SHARED, f"lr_per_16={rate}"]
    runs = plan(table, data, model=args.model, seeds=range(seeds), epochs=epochs, overrides=overrides)
    return [Run(run.row, run.config, group) for run in runs if not args.rows or run.row in args.rows]


def train_ap(args: argparse.Namespace) -> None:
    """Train and measure AP."""
    stores: dict[str, Store] = {}
    truths: dict[str, Any] = {}
    todo: list[Run] = []
    for name in args.sets:
        group = f"{name}-{args.model}" + ("" if args.epochs == EPOCHS else f"-{args.epochs}-epochs")
        runs = planned(args, name, RATES[args.model], args.epochs, SEEDS[name], group)
        truths[group] = open_dataset(runs[0].config.data, "val").ground_truth()
        (HERE / group).mkdir(parents=True, exist_ok=True)
        stores[group] = Store(HERE / group / "results.jsonl")
        stores[group].check([(run.row, run.config) for run in runs], digest(truths[group]))
        todo += [run for run in runs if (run.row, run.config.seed) not in stores[group].records]

    def keep(run: Run, folder: Path) -> None:
        stores[run.group].add(read_record(folder, run.row, truths[run.group], versions()))

    start(args, todo, keep)


def train_briefly(args: argparse.Namespace) -> None:
    """Train two epochs at FPN's rate and at twice that, and keep the losses."""
    file = HERE / "stability.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    done = {tuple(json.loads(line)[key] for key in ("group", "row", "seed")) for line in lines}
    todo: list[Run] = []
    for name in args.sets:
        for factor in (1, 2):
            group = f"{name}-{args.model}-stability-{factor}"
            runs = planned(args, name, RATES[args.model] * factor, 2, 3, group)
            todo += [run for run in runs if (group, run.row, run.config.seed) not in done]

    def keep(run: Run, folder: Path | None, said: str = "") -> None:
        log = [] if folder is None else (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
        line = {"group": run.group, "row": run.row, "seed": run.config.seed, "rate": run.config.lr_per_16}
        line |= {"losses": [json.loads(epoch)["loss"] for epoch in log], "said": said}
        with file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")

    failed = start(args, todo, keep)
    for run in todo:
        if run.name in failed and "not finite" in failed[run.name]:
            keep(run, None, failed[run.name])


def start(args: argparse.Namespace, todo: list[Run], keep: Any) -> dict[str, str]:
    """Make runs side by side, the first seed on all data sets before the second."""
    todo = sorted(todo, key=lambda run: run.config.seed)
    print(f"{len(todo)} runs to be made", flush=True)
    devices, threads = places(args.device, args.jobs)
    failed = make_runs(todo, args.out, keep, devices=devices, threads=threads)
    for name, said in failed.items():
        print(f"{name}: {said}")
    return failed


def main(argv: Iterable[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    parser.add_argument("--what", choices=("ap", "stability"), default="ap")
    parser.add_argument("--model", choices=RATES, default="faster_rcnn_lite0")
    parser.add_argument("--sets", nargs="+", choices=SEEDS, default=list(SEEDS))
    parser.add_argument("--rows", nargs="+", default=[])
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="more of them for a cheaper pyramid: equal time")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path("runs/census"), help="of the run folders")
    args = parser.parse_args(argv)
    if args.data is None and set(args.sets) != {"shapes"}:
        parser.error("--data is needed for data sets other than shapes")
    {"ap": train_ap, "stability": train_briefly}[args.what](args)


if __name__ == "__main__":
    main()
