"""The images and objects that a run has skipped: listed in ``skipped.jsonl``, and limited in number."""

import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from drfpn.data import DetectionDataset
from drfpn.data.augment.transformed_dataset import SkippedImage
from drfpn.utils import distributed
from drfpn.utils.errors import UserError

logger = logging.getLogger(__name__)

MAX_SKIPPED_FRACTION = 0.01
"""Largest fraction of a data set's images, and of its objects, that may be skipped; one always may."""


def check_skipped_objects(dataset: DetectionDataset) -> None:
    """Check that opening a data set has not skipped too many of its objects.

    Args:
        dataset: training images.

    Raises:
        UserError: too many were skipped; the message names the first.
    """
    skipped = dataset.skipped_objects
    if not skipped:
        return
    total = len(skipped) + dataset.num_objects()
    if len(skipped) > max(1, MAX_SKIPPED_FRACTION * total):
        raise UserError(
            f"{skipped[0].summary} ({len(skipped)} of {total} objects would be left out, more than "
            f"{MAX_SKIPPED_FRACTION:.0%}: 'drfpn data check' lists them)."
        )


class SkippedImages:
    """Images that could not be read, each once in ``skipped.jsonl`` of the run folder, after the skipped objects.

    Args:
        folder: the run folder; images that are listed there already count.
        dataset: training images.
    """

    def __init__(self, folder: Path, dataset: DetectionDataset) -> None:
        self.file = folder / "skipped.jsonl"
        self.num_images = len(dataset)
        self.reasons: dict[str, str] = {}
        """Reason by name of the image."""
        if self.file.is_file():
            rows = [json.loads(line) for line in self.file.read_text(encoding="utf-8").splitlines()]
            self.reasons = {row["image"]: row["reason"] for row in rows if "image" in row}
        elif distributed.rank() == 0 and dataset.skipped_objects:
            self._write({"object": issue.location, "reason": issue.observed} for issue in dataset.skipped_objects)
        self._pending: dict[str, str] = {}

    def _write(self, rows: Iterable[dict[str, str]]) -> None:
        with self.file.open("a", encoding="utf-8") as stream:
            stream.writelines(json.dumps(row) + "\n" for row in rows)

    def add(self, skipped: Iterable[SkippedImage]) -> None:
        """Add images that this process has skipped.

        Args:
            skipped: names and reasons.
        """
        self._pending |= {name: reason for name, reason in skipped if name not in self.reasons}

    @contextmanager
    def written_on_error(self) -> Iterator[None]:
        """Write the images of this process that are not listed yet, if the context is left by an exception."""
        try:
            yield
        except BaseException:
            pending, self._pending = self._pending, {}
            with suppress(OSError):  # not in place of the exception
                self._list(pending, of_all_processes=False)
            raise

    def _list(self, new: dict[str, str], *, of_all_processes: bool = True) -> None:
        """Write images; those of all processes by rank 0 only."""
        self.reasons |= new
        if new and (distributed.rank() == 0 or not of_all_processes):
            self._write({"image": name, "reason": reason} for name, reason in new.items())
        for reason in new.values():
            logger.warning("left out: %s", reason)

    @property
    def num_pending(self) -> int:
        """Number of images that were added since the last :meth:`synchronize`."""
        return len(self._pending)

    def synchronize(self) -> None:
        """Collect the images of all processes and write them; all processes call this together.

        Raises:
            UserError: too many images are skipped in all.
        """
        new: dict[str, str] = {}
        for pending in distributed.all_gather_objects(self._pending):
            new |= pending
        self._pending = {}
        self._list({name: reason for name, reason in new.items() if name not in self.reasons})
        if len(self.reasons) > max(1, MAX_SKIPPED_FRACTION * self.num_images):
            raise UserError(
                f"{len(self.reasons)} of {self.num_images} images could not be read, more than "
                f"{MAX_SKIPPED_FRACTION:.0%}: {self.file} lists them; fix or remove them and resume with `resume=True`."
            )
