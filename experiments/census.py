"""AP and stability of FPN, PAFPN, DRFPN's conventions and simpler necks on six data sets.

``python experiments/census.py --data FOLDER [--what stability|ap] [--model faster_rcnn_lite0] [--sets ...] [--rows ...]
[--epochs 8] [--jobs 2]``

FOLDER holds the data sets by name; ``shapes`` is synthetic. Missing runs are trained, ordered by seed, data set and
row; an interrupted command resumes when it is called again. Results of finished runs are lines of
``experiments/census/SET-MODEL/results.jsonl`` (``ap``) and of ``experiments/census/stability.jsonl``, for short runs of
which only the loss is used. ``python experiments/census_tables.py`` writes tables and a plot of them.
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from drfpn.ablations.ablation import versions
from drfpn.ablations.plan import plan
from drfpn.ablations.runner import assign_devices, train_runs
from drfpn.ablations.store import Store, dataset_digest, read_record
from drfpn.ablations.tables import choose_rows, find_table
from drfpn.data import open_dataset
from drfpn.training.config import RunConfig
from drfpn.utils.messages import log_to_stderr

HERE = Path(__file__).parent / "census"
SEEDS = {"raccoon": 5, "bccd": 3, "shapes": 3, "deeppcb": 3, "dsb2018": 3, "hdbpmn": 3}
"""Number of seeds by data set; DRFPN's default convention was chosen on the first three."""
RATES = {"faster_rcnn_lite0": 0.04, "retinanet_lite0": 0.04}
"""Learning rate for a batch of 16 images, tuned for FPN."""
EPOCHS = 8
SHARED = ("max_train_images=200", "workers=0", "eval_every=0")


class Run(NamedTuple):
    """A run of the census."""

    row: str
    config: RunConfig
    group: str
    """Parent of the run folder, relative to --out."""

    @property
    def name(self) -> str:
        """Run folder relative to --out."""
        return f"{self.group}/{self.row}-{self.config.seed}"


def plan_runs(args: argparse.Namespace, name: str, rate: float, epochs: int, seeds: int, group: str) -> list[Run]:
    """Return the runs on one data set."""
    table = choose_rows(find_table("census"), args.rows)
    data = name if name == "shapes" else str(args.data / name)
    overrides = [*SHARED, f"base_lr={rate}"]
    runs = plan(table, data, model=args.model, seeds=range(seeds), epochs=epochs, overrides=overrides)
    return [Run(run.row, run.config, group) for run in runs if not args.rows or run.row in args.rows]


def train_ap(args: argparse.Namespace) -> None:
    """Train the missing runs and store their AP."""
    stores: dict[str, Store] = {}
    truths: dict[str, Any] = {}
    todo: list[Run] = []
    for name in args.sets:
        group = f"{name}-{args.model}" + ("" if args.epochs == EPOCHS else f"-{args.epochs}-epochs")
        runs = plan_runs(args, name, RATES[args.model], args.epochs, SEEDS[name], group)
        truths[group] = open_dataset(runs[0].config.data, "val").ground_truth()
        (HERE / group).mkdir(parents=True, exist_ok=True)
        stores[group] = Store(HERE / group / "results.jsonl")
        stores[group].check([(run.row, run.config) for run in runs], dataset_digest(truths[group]))
        todo += [run for run in runs if (run.row, run.config.seed) not in stores[group].records]

    def store(run: Run, folder: Path) -> None:
        stores[run.group].add(read_record(folder, run.row, truths[run.group], versions()))

    train_all(args, todo, store)


def train_briefly(args: argparse.Namespace) -> None:
    """Train two epochs at FPN's learning rate and at twice that, and store the losses."""
    file = HERE / "stability.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    done = {tuple(json.loads(line)[key] for key in ("group", "row", "seed")) for line in lines}
    todo: list[Run] = []
    for name in args.sets:
        for factor in (1, 2):
            group = f"{name}-{args.model}-stability-{factor}"
            runs = plan_runs(args, name, RATES[args.model] * factor, 2, 3, group)
            todo += [run for run in runs if (group, run.row, run.config.seed) not in done]

    def store(run: Run, folder: Path | None, error: str = "") -> None:
        log = [] if folder is None else (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
        line = {"group": run.group, "row": run.row, "seed": run.config.seed, "rate": run.config.base_lr}
        line |= {"losses": [json.loads(epoch)["loss"] for epoch in log], "said": error}
        with file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")

    failed = train_all(args, todo, store)
    for run in todo:
        if run.name in failed and "not finite" in failed[run.name]:
            store(run, None, failed[run.name])


def train_all(args: argparse.Namespace, todo: list[Run], store: Any) -> dict[str, str]:
    """Train runs in parallel, ordered by seed; return the error message of each failed run."""
    todo = sorted(todo, key=lambda run: run.config.seed)
    print(f"{len(todo)} runs to be trained", flush=True)
    devices, threads = assign_devices(args.device, args.jobs)
    failed = train_runs(todo, args.out, store, devices=devices, threads=threads)
    for name, error in failed.items():
        print(f"{name}: {error}")
    return failed


def main(argv: Iterable[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    parser.add_argument("--what", choices=("ap", "stability"), default="ap")
    parser.add_argument("--model", choices=RATES, default="faster_rcnn_lite0")
    parser.add_argument("--sets", nargs="+", choices=SEEDS, default=list(SEEDS))
    parser.add_argument("--rows", nargs="+", default=[])
    parser.add_argument(
        "--epochs", type=int, default=EPOCHS, help="more epochs for a cheaper neck, for equal training time"
    )
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path("runs/census"), help="parent of the run folders")
    args = parser.parse_args(argv)
    if args.data is None and set(args.sets) != {"shapes"}:
        parser.error("--data is needed for data sets other than shapes")
    with log_to_stderr():
        {"ap": train_ap, "stability": train_briefly}[args.what](args)


if __name__ == "__main__":
    main()
