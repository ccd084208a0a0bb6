"""The images and objects that a run left out, counted and listed."""

import json
from collections.abc import Iterable
from pathlib import Path

from drfpn.data import DetectionDataset
from drfpn.data.augment.transforms import Skipped
from drfpn.utils import distributed
from drfpn.utils.console import say
from drfpn.utils.errors import UserError

LIMIT = 0.01
"""Largest share of a data set's images, and of its objects, that may be left out, one aside."""


def check_left_out(dataset: DetectionDataset) -> None:
    """Refuse a data set of whose objects too many were left out when it was opened.

    Raises:
        UserError: with the first.
    """
    bad = dataset.left_out
    if not bad:
        return
    total = len(bad) + dataset.objects()
    if len(bad) > max(1, LIMIT * total):
        raise UserError(
            f"{bad[0].example} ({len(bad)} of {total} objects would be left out, more than {LIMIT:.0%}: "
            "'drfpn data check' lists them)."
        )


class Skips:
    """Images that could not be read, in ``skipped.jsonl`` of the run folder, each once, after the objects left out.

    Args:
        folder: of the run; what is listed there already is counted.
        dataset: that is trained on.
    """

    def __init__(self, folder: Path, dataset: DetectionDataset) -> None:
        self.file = folder / "skipped.jsonl"
        self.images = len(dataset)
        self.listed: dict[str, str] = {}
        """Why, by name."""
        if self.file.is_file():
            rows = [json.loads(line) for line in self.file.read_text(encoding="utf-8").splitlines()]
            self.listed = {row["image"]: row["reason"] for row in rows if "image" in row}
        elif distributed.rank() == 0 and dataset.left_out:
            self._write({"object": problem.where, "reason": problem.found} for problem in dataset.left_out)
        self._new: dict[str, str] = {}

    def _write(self, rows: Iterable[dict[str, str]]) -> None:
        with self.file.open("a", encoding="utf-8") as stream:
            stream.writelines(json.dumps(row) + "\n" for row in rows)

    def add(self, skipped: Iterable[Skipped]) -> None:
        """Take note of images that this process left out."""
        self._new |= {name: reason for name, reason in skipped if name not in self.listed}

    @property
    def new(self) -> int:
        """How many this process has not handed in."""
        return len(self._new)

    def hand_in(self) -> None:
        """List the new images of all processes, which call this together.

        Raises:
            UserError: too many are left out in all.
        """
        new: dict[str, str] = {}
        for one in distributed.all_gather_objects(self._new):
            new |= one
        new = {name: reason for name, reason in new.items() if name not in self.listed}
        self._new = {}
        self.listed |= new
        if distributed.rank() == 0:
            self._write({"image": name, "reason": reason} for name, reason in new.items())
        for reason in new.values():
            say(f"left out: {reason}")
        if len(self.listed) > max(1, LIMIT * self.images):
            raise UserError(
                f"{len(self.listed)} of {self.images} images could not be read, more than {LIMIT:.0%}: "
                f"{self.file} lists them; mend or remove them and go on with --resume."
            )
