"""Writer of COCO's instances format, in COCO's own folder layout."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from drfpn.data.formats.base_writer import DatasetWriter, Splits, relative_name, unique_name


class CocoWriter(DatasetWriter):
    """Writes annotations/instances_{split}2017.json and {split}2017/, COCO's own layout.

    All numbers, ids and segmentations are written as they were read.

    Args:
        folder: as of ``DatasetWriter``.
        splits: as of ``DatasetWriter``.
        masks: as of ``DatasetWriter``.
    """

    def __init__(self, folder: Path, splits: Splits, *, masks: bool) -> None:
        super().__init__(folder, splits, masks=masks)
        self._names = {}
        for split, annotations in splits.items():
            used: set[str] = set()
            names = map(relative_name, annotations.file_names.tolist())
            self._names[split] = [unique_name(name, used, by_stem=False) for name in names]

    def image_file(self, split: str, index: int) -> Path:
        """Return {split}2017/{name}."""
        return Path(f"{split}2017", self._names[split][index])

    def add(self, split: str, index: int) -> None:
        """Do nothing: all annotations of a split are in one file."""

    def finish(self) -> None:
        """Write the JSON files."""
        (self.folder / "annotations").mkdir()
        for split, annotations in self.splits.items():
            file_names = np.array([str(name) for name in self._names[split]], dtype=np.str_)
            renamed = replace(annotations, file_names=file_names, merged_category_ids={})
            record = renamed.to_coco(segmentations=self.masks)
            file = self.folder / "annotations" / f"instances_{split}2017.json"
            file.write_text(json.dumps(record), encoding="utf-8")
