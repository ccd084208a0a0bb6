"""What a trained FPN detector gains as a DRFPN detector: trained on as both, from the same weights.

``python experiments/upgrade.py --data BCCD [--seeds 10] [--jobs 2]``

Faster R-CNN lite0 with FPN is trained for 16 epochs; then for 4 more from these weights (``drfpn train --weights``),
once with FPN and once with DRFPN, which begins with the same detections. Stopped at any moment, the same command goes
on.
Results are lines of ``experiments/upgrade/results.jsonl``; the difference is printed and written to ``upgrade.md``.
"""

import argparse
from pathlib import Path

from drfpn.ablations.ablation import versions
from drfpn.ablations.plan import Planned
from drfpn.ablations.runner import make_runs, places
from drfpn.ablations.statistics import difference, spread
from drfpn.ablations.store import Store, digest, read_record
from drfpn.data import open_dataset
from drfpn.training.config import resolve

HERE = Path(__file__).parent / "upgrade"
SHARED = ("lr_per_16=0.04", "workers=0", "eval_every=0")
FIRST, MORE = 16, 4
TRAINED, AS_FPN, AS_DRFPN = "fpn-16", "fpn-16-4", "drfpn-16-4"
"""Rows: FPN after 16 epochs, and after four more with each pyramid."""


def planned(row: str, data: str, seed: int, runs: Path) -> Planned:
    """Return the run of a row."""
    model = f"faster_rcnn_lite0_{'drfpn' if row == AS_DRFPN else 'fpn'}"
    if row == TRAINED:
        return Planned(row, resolve(model, data, epochs=FIRST, seed=seed, overrides=SHARED))
    # the last weights, not the best: which epoch is best was seen on the images that are measured on
    weights = str(runs / f"{TRAINED}-{seed}" / "last.safetensors")
    return Planned(row, resolve(model, data, epochs=MORE, seed=seed, overrides=SHARED, weights=weights))


def main() -> None:
    """Train what is missing and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path("runs/upgrade"), help="of the run folders")
    args = parser.parse_args()
    HERE.mkdir(exist_ok=True)
    store = Store(HERE / "results.jsonl")
    truth = open_dataset(args.data, "val").ground_truth()
    wanted = [(TRAINED, planned(TRAINED, args.data, seed, args.out).config) for seed in range(args.seeds)]
    store.check(wanted, digest(truth))
    devices, threads = places(args.device, args.jobs)

    def keep(run: Planned, folder: Path) -> None:
        store.add(read_record(folder, run.row, truth, versions()))

    for rows in ((TRAINED,), (AS_FPN, AS_DRFPN)):
        missing = [(row, s) for s in range(args.seeds) for row in rows if (row, s) not in store.records]
        todo = [planned(row, args.data, seed, args.out) for row, seed in missing]
        for name, said in make_runs(todo, args.out, keep, devices=devices, threads=threads).items():
            print(f"{name}: {said}")
    runs = store.of((TRAINED, AS_FPN, AS_DRFPN))
    text = f"Faster R-CNN lite0 on {Path(args.data).name}, AP in %.\n\n| | seeds | AP |\n|---|---|---|\n"
    titles = {TRAINED: f"FPN, {FIRST} epochs", AS_FPN: f"then FPN, {MORE} more", AS_DRFPN: f"then DRFPN, {MORE} more"}
    for row, title in titles.items():
        if runs[row]:
            found = spread(runs[row], "AP")
            sd = "" if found.sd is None else f" ± {found.sd:.1f}"
            text += f"| {title} | {len(runs[row])} | {found.mean:.1f}{sd} |\n"
    gap = difference(runs[AS_DRFPN], runs[AS_FPN])
    if gap is not None:
        text += f"\nDRFPN over FPN: {gap.mean:+.1f} [{gap.low:+.1f}, {gap.high:+.1f}], {gap.seeds} seeds, paired.\n"
    (HERE / "upgrade.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
