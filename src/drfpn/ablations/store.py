"""Results of finished runs: the lines of ``results.jsonl``, from which the tables are written."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from pydantic import BaseModel, ValidationError

from drfpn.evaluation.backend import choose_backend
from drfpn.evaluation.bootstrap import bootstrap_ap
from drfpn.evaluation.matching import match_detections
from drfpn.training.config import SAVED, RunConfig
from drfpn.training.resolve import read_config
from drfpn.utils.errors import UserError
from drfpn.utils.io import write_atomically

RESAMPLES = 1000
"""Bootstrap resamples of the validation images; the same for every run, so that runs on the same images are paired."""


class Record(BaseModel):
    """Result of a finished run."""

    row: str
    """Row of the tables: a key of ``tables.NECK_CONFIGS``."""
    seed: int
    data: str
    """Digest of the validation split; runs on other data are not compared."""
    images: int
    """Images of the validation split."""
    seconds: float
    """Training time without evaluations."""
    metrics: dict[str, float]
    """COCO metrics after the last epoch, as fractions."""
    curve: list[tuple[int, float]]
    """(epoch, AP) for each evaluated epoch."""
    resampled: list[float]
    """AP on each bootstrap resample of the validation images."""
    config: RunConfig
    """Settings of the run, with the name of the data folder in place of its path."""
    versions: dict[str, str]


def read_record(folder: Path, row: str, ground_truth: Mapping[str, Any], versions: Mapping[str, str]) -> Record:
    """Read the result of a finished run.

    Args:
        folder: run folder.
        row: key of ``tables.NECK_CONFIGS``.
        ground_truth: COCO dict of the validation split.
        versions: versions of the packages that it was trained with.
    """
    config = read_config(folder / "config.yaml")
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    results = json.loads((folder / "detections.json").read_text(encoding="utf-8"))
    matches = match_detections(choose_backend(), ground_truth, results, "bbox")
    resampled = bootstrap_ap(matches, resamples=RESAMPLES)
    names = [name for name in log[-1] if name.removeprefix("mask_").startswith(("AP", "AR"))]
    return Record(
        row=row,
        seed=config.seed,
        data=dataset_digest(ground_truth),
        images=len(ground_truth["images"]),
        seconds=sum(epoch["seconds"] for epoch in log),
        metrics={name: -1.0 if log[-1][name] is None else log[-1][name] for name in names},
        curve=[(epoch["epoch"], epoch["AP"]) for epoch in log if epoch.get("AP") is not None],
        resampled=[round(value, 5) for value in np.nan_to_num(resampled, nan=-1.0).tolist()],
        config=config.model_copy(update={"data": Path(config.data).name}),
        versions=dict(versions),
    )


def dataset_digest(ground_truth: Mapping[str, Any]) -> str:
    """Return a short digest of the images and boxes of a data set, independent of names of files and folders.

    Args:
        ground_truth: COCO dict.
    """
    images = sorted((image["id"], image["width"], image["height"]) for image in ground_truth["images"])
    objects = sorted((row["image_id"], row["category_id"], *row["bbox"]) for row in ground_truth["annotations"])
    return hashlib.sha256(json.dumps([images, objects]).encode()).hexdigest()[:16]


class Store:
    """Results of finished runs in ``results.jsonl``, which several processes may add to.

    Args:
        file: path; the file is created when the first result is added.

    Raises:
        UserError: a line is not a result.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.records: dict[tuple[str, int], Record] = {}
        self._lock = FileLock(file.with_name(f".{file.stem}.lock"))
        self._read()

    def _read(self) -> None:
        if not self.file.exists():
            return
        for number, line in enumerate(self.file.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                record = Record.model_validate_json(line, context=SAVED)
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(str(part) for part in first["loc"])
                raise UserError(f"{self.file}, line {number}: '{where}': {first['msg']}.") from error
            self.records[record.row, record.seed] = record

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Read what other processes have added, and let none of them write the files of this folder meanwhile."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self._lock:
            self._read()
            yield

    def add(self, record: Record) -> None:
        """Add a result and write the file, in the order of rows and seeds.

        Args:
            record: result of a finished run.
        """
        with self.locked():
            self.records[record.row, record.seed] = record
            ordered = [self.records[key] for key in sorted(self.records)]
            write_atomically(self.file, "".join(record.model_dump_json() + "\n" for record in ordered).encode())

    def select(self, rows: Iterable[str]) -> dict[str, dict[int, Record]]:
        """Return the results of some rows, by row and seed.

        Args:
            rows: keys of ``tables.NECK_CONFIGS``.
        """
        return {row: {seed: r for (key, seed), r in sorted(self.records.items()) if key == row} for row in rows}

    def check(self, planned: Sequence[tuple[str, RunConfig]], data: str) -> None:
        """Check that stored results have the settings and data of planned runs.

        Args:
            planned: row and settings of each run.
            data: digest of the validation split.

        Raises:
            UserError: a stored result has other settings or data.
        """
        for row, config in planned:
            record = self.records.get((row, config.seed))
            if record is None:
                continue
            differs = [key for key in record.config.changed(config) if key != "data"]
            for key in differs[:1]:
                raise UserError(
                    f"{self.file} has '{row}', seed {config.seed}, trained with {key}="
                    f"{getattr(record.config, key)!r}, not {getattr(config, key)!r}: choose another `out`, or the "
                    "same settings."
                )
            if record.data != data:
                raise UserError(
                    f"{self.file} has '{row}', seed {config.seed}, measured on another '{config.val_split}' split than "
                    f"that of {config.data}: choose another `out`."
                )
