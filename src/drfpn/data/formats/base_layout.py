"""``Layout``: the base class of data sets in a known folder layout."""

import shlex
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from drfpn.data.annotations import Annotations
from drfpn.data.formats.split_names import canonical_split
from drfpn.data.progress import ProgressCallback
from drfpn.data.validation.issues import IssueHandler
from drfpn.utils.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Layout(ABC):
    """A data set in a known layout."""

    root: Path
    """The folder, or the YAML file."""
    splits: tuple[str, ...]

    @abstractmethod
    def image_folders(self, split: str) -> tuple[Path, ...]:
        """Return the folders that are searched for the images of an existing split; some may not exist."""

    def label_files(self, split: str) -> tuple[Path, ...]:
        """Return the files on disk that each annotate one image, of an existing split or of all; empty for others."""
        return ()

    @abstractmethod
    def parse(
        self,
        split: str,
        on_issue: IssueHandler,
        progress: ProgressCallback | None = None,
        *,
        segmentations: bool = True,
    ) -> Annotations | None:
        """Read the valid records of an existing split; arguments as of ``read``."""

    def read(
        self,
        split: str,
        on_issue: IssueHandler,
        progress: ProgressCallback | None = None,
        *,
        segmentations: bool = True,
    ) -> Annotations | None:
        """Read the valid records of a split and report the others; ``None`` if nothing is valid.

        Args:
            split: one of ``splits``, or a synonym such as ``validation``.
            on_issue: called with each issue.
            progress: called with the amount read so far and the total: images if each is annotated in a file of its
                own, MiB for COCO.
            segmentations: keep the segmentations.

        Raises:
            UserError: there is no such split.
        """
        if split not in self.splits and (synonym := canonical_split(split)) in self.splits:
            split = synonym
        if split not in self.splits:
            existing = ", ".join(self.splits) or "none"
            hints = did_you_mean(split, self.splits), split_hint(str(self.root), self.splits)
            if split in ("train", "val"):  # not a slip, although "all" is similar
                hints = hints[::-1]
            raise UserError(
                f"{self.root} has no split '{split}', expected one that is there: {existing}." + (hints[0] or hints[1])
            )
        return self.parse(split, on_issue, progress, segmentations=segmentations)


def split_hint(data: str, splits: tuple[str, ...]) -> str:
    """Return a sentence with the command that divides a data set without ``val``; empty if it cannot.

    Args:
        data: path of the data set.
        splits: its splits.
    """
    if "val" in splits or not ({"train", "trainval"} & set(splits) or len(splits) == 1):
        return ""
    return f" 'drfpn data split {shlex.quote(data)} --val 0.2' divides it into train and val."
