"""Writing COCO's own layout."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from drfpn.data.formats.writer import Splits, Writer, relative_name, unique


class CocoWriter(Writer):
    """annotations/instances_{split}2017.json and {split}2017/, as COCO itself is laid out.

    All numbers, ids and segmentations are kept as they were read.
    """

    def __init__(self, folder: Path, splits: Splits, *, masks: bool) -> None:
        super().__init__(folder, splits, masks=masks)
        self._names = {}
        for split, annotations in splits.items():
            taken: set[str] = set()
            wanted = map(relative_name, annotations.file_names.tolist())
            self._names[split] = [unique(name, taken, by_stem=False) for name in wanted]

    def image_file(self, split: str, index: int) -> Path:
        """Return {split}2017/{name}."""
        return Path(f"{split}2017", self._names[split][index])

    def add(self, split: str, index: int) -> None:
        """Do nothing: a split is one file."""

    def finish(self) -> None:
        """Write the JSON files."""
        (self.folder / "annotations").mkdir()
        for split, annotations in self.splits.items():
            names = np.array([str(name) for name in self._names[split]], dtype=np.str_)
            record = replace(annotations, file_names=names).to_coco(segmentations=self.masks)
            file = self.folder / "annotations" / f"instances_{split}2017.json"
            file.write_text(json.dumps(record), encoding="utf-8")
