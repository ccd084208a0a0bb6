"""What is kept of a finished run: one line of ``results.jsonl``, enough to draw every table again."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ValidationError

from drfpn.evaluation.backend import choose_backend
from drfpn.evaluation.bootstrap import resampled_ap
from drfpn.evaluation.matching import find_matches
from drfpn.training.config import SAVED, RunConfig, read_config
from drfpn.utils.errors import UserError
from drfpn.utils.io import write_atomically

RESAMPLES = 1000
"""Draws of the validation images; the same for every run, so that two runs on the same images are paired."""


class Record(BaseModel):
    """A finished run."""

    row: str
    """Its pyramid: a key of ``tables.NECK_CONFIGS``."""
    seed: int
    data: str
    """Digest of the validation split: runs on other data are not compared."""
    images: int
    """Of the validation split."""
    seconds: float
    """That training took, its evaluations aside."""
    metrics: dict[str, float]
    """COCO's numbers after the last epoch; fractions."""
    curve: list[tuple[int, float]]
    """(epoch, AP) wherever it was measured."""
    resampled: list[float]
    """AP on resamples of the validation images."""
    config: RunConfig
    """Its data by the folder's name alone."""
    versions: dict[str, str]


def read_record(folder: Path, row: str, truth: Mapping[str, Any], versions: Mapping[str, str]) -> Record:
    """Read a finished run folder.

    Args:
        folder: of the run.
        row: key of its pyramid.
        truth: ground truth of the validation split, a COCO dict.
        versions: what it ran with.
    """
    config = read_config(folder / "config.yaml")
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    results = json.loads((folder / "detections.json").read_text(encoding="utf-8"))
    matches = find_matches(choose_backend(), truth, results, "bbox")
    resampled = resampled_ap(matches, resamples=RESAMPLES)
    names = [name for name in log[-1] if name.removeprefix("mask_").startswith(("AP", "AR"))]
    return Record(
        row=row,
        seed=config.seed,
        data=digest(truth),
        images=len(truth["images"]),
        seconds=sum(epoch["seconds"] for epoch in log),
        metrics={name: log[-1][name] for name in names},
        curve=[(epoch["epoch"], epoch["AP"]) for epoch in log if "AP" in epoch],
        resampled=[round(value, 5) for value in np.nan_to_num(resampled, nan=-1.0).tolist()],
        config=config.model_copy(update={"data": Path(config.data).name}),
        versions=dict(versions),
    )


def digest(truth: Mapping[str, Any]) -> str:
    """Return a short digest of what is to be found in which image; names of files and folders do not matter."""
    images = sorted((image["id"], image["width"], image["height"]) for image in truth["images"])
    objects = sorted((row["image_id"], row["category_id"], *row["bbox"]) for row in truth["annotations"])
    return hashlib.sha256(json.dumps([images, objects]).encode()).hexdigest()[:16]


class Store:
    """The finished runs in ``results.jsonl``.

    Args:
        file: made when the first run is added.

    Raises:
        UserError: a line that is not a finished run.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.records: dict[tuple[str, int], Record] = {}
        if not file.exists():
            return
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                record = Record.model_validate_json(line, context=SAVED)
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(str(part) for part in first["loc"])
                raise UserError(f"{file}, line {number}: '{where}': {first['msg']}.") from error
            self.records[record.row, record.seed] = record

    def add(self, record: Record) -> None:
        """Keep one more run, on disk at once."""
        self.records[record.row, record.seed] = record
        ordered = [self.records[key] for key in sorted(self.records)]
        write_atomically(self.file, "".join(record.model_dump_json() + "\n" for record in ordered).encode())

    def of(self, rows: Iterable[str]) -> dict[str, dict[int, Record]]:
        """Return the runs of some rows: row -> seed -> run."""
        return {row: {seed: r for (key, seed), r in sorted(self.records.items()) if key == row} for row in rows}

    def check(self, wanted: Sequence[tuple[str, RunConfig]], data: str) -> None:
        """Raise ``UserError`` where a run that is here was trained otherwise than it is wanted now."""
        for row, config in wanted:
            record = self.records.get((row, config.seed))
            if record is None:
                continue
            differs = [key for key in record.config.changed(config) if key != "data"]
            for key in differs[:1]:
                raise UserError(
                    f"{self.file} has '{row}', seed {config.seed}, trained with {key}="
                    f"{getattr(record.config, key)!r}, not {getattr(config, key)!r}: choose another --out, or the "
                    "same settings."
                )
            if record.data != data:
                raise UserError(
                    f"{self.file} has '{row}', seed {config.seed}, measured on another '{config.val_split}' split than "
                    f"that of {config.data}: choose another --out."
                )
