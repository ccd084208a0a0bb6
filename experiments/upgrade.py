"""AP of a trained FPN detector after further training with FPN and with DRFPN, from the same weights.

``python experiments/upgrade.py --data BCCD [--seeds 10] [--jobs 2]``

Faster R-CNN lite0 with FPN is trained for 16 epochs; then for 4 more from these weights (``drfpn train --weights``),
once with FPN and once with DRFPN, whose first detections are the same. An interrupted command resumes when it is called
again. Results are lines of ``experiments/upgrade/results.jsonl``; the difference is also written to ``upgrade.md``.
"""

import argparse
from pathlib import Path

from drfpn.ablations.ablation import versions
from drfpn.ablations.plan import PlannedRun
from drfpn.ablations.runner import assign_devices, train_runs
from drfpn.ablations.statistics import mean_std, paired_difference
from drfpn.ablations.store import Store, dataset_digest, read_record
from drfpn.data import open_dataset
from drfpn.training.resolve import resolve
from drfpn.utils.messages import log_to_stderr

HERE = Path(__file__).parent / "upgrade"
SHARED = ("base_lr=0.04", "workers=0", "eval_every=0")
FIRST, MORE = 16, 4
TRAINED, AS_FPN, AS_DRFPN = "fpn-16", "fpn-16-4", "drfpn-16-4"
"""Rows: FPN after 16 epochs, and after four more with each neck."""


def plan_run(row: str, data: str, seed: int, runs: Path) -> PlannedRun:
    """Return the run of a row."""
    model = f"faster_rcnn_lite0_{'drfpn' if row == AS_DRFPN else 'fpn'}"
    if row == TRAINED:
        return PlannedRun(row, resolve(model, data, epochs=FIRST, seed=seed, overrides=SHARED))
    # the last weights, since the best ones are chosen on the validation images
    weights = str(runs / f"{TRAINED}-{seed}" / "last.safetensors")
    return PlannedRun(row, resolve(model, data, epochs=MORE, seed=seed, overrides=SHARED, weights=weights))


def main() -> None:
    """Train the missing runs and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path("runs/upgrade"), help="parent of the run folders")
    args = parser.parse_args()
    HERE.mkdir(exist_ok=True)
    store = Store(HERE / "results.jsonl")
    truth = open_dataset(args.data, "val").ground_truth()
    runs = [(TRAINED, plan_run(TRAINED, args.data, seed, args.out).config) for seed in range(args.seeds)]
    store.check(runs, dataset_digest(truth))
    devices, threads = assign_devices(args.device, args.jobs)

    def add(run: PlannedRun, folder: Path) -> None:
        store.add(read_record(folder, run.row, truth, versions()))

    for rows in ((TRAINED,), (AS_FPN, AS_DRFPN)):
        missing = [(row, s) for s in range(args.seeds) for row in rows if (row, s) not in store.records]
        todo = [plan_run(row, args.data, seed, args.out) for row, seed in missing]
        with log_to_stderr():
            failed = train_runs(todo, args.out, add, devices=devices, threads=threads)
        for name, error in failed.items():
            print(f"{name}: {error}")
    results = store.select((TRAINED, AS_FPN, AS_DRFPN))
    text = f"Faster R-CNN lite0 on {Path(args.data).name}, AP in %.\n\n| | seeds | AP |\n|---|---|---|\n"
    titles = {TRAINED: f"FPN, {FIRST} epochs", AS_FPN: f"then FPN, {MORE} more", AS_DRFPN: f"then DRFPN, {MORE} more"}
    for row, title in titles.items():
        if results[row]:
            ap = mean_std(results[row], "AP")
            sd = "" if ap.sd is None else f" ± {ap.sd:.1f}"
            text += f"| {title} | {len(results[row])} | {ap.mean:.1f}{sd} |\n"
    gain = paired_difference(results[AS_DRFPN], results[AS_FPN])
    if gain is not None:
        text += f"\nDRFPN over FPN: {gain.mean:+.1f} [{gain.low:+.1f}, {gain.high:+.1f}], {gain.seeds} seeds, paired.\n"
    (HERE / "upgrade.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
