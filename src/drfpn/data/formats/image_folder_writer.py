"""Writer of Hugging Face's ImageFolder for detection: metadata.jsonl with a line for each image."""

import json
from collections import defaultdict
from pathlib import Path

from drfpn.data.formats.base_writer import DatasetWriter, Splits


class ImageFolderWriter(DatasetWriter):
    """Writes {split}/ with images and metadata.jsonl, as read by ``datasets.load_dataset("imagefolder", ...)``.

    ``objects`` has the boxes (x, y, width, height in pixels), names of classes, areas and ``iscrowd``.

    Args:
        folder: as of ``DatasetWriter``.
        splits: as of ``DatasetWriter``.
        masks: only counts the segmentations that are lost: the lines hold boxes only.
    """

    def __init__(self, folder: Path, splits: Splits, *, masks: bool) -> None:
        super().__init__(folder, splits, masks=masks)
        self._names = {}
        self._lines: dict[str, list[str]] = defaultdict(list)
        for split in splits:
            used = {"metadata.jsonl"}
            self._names[split] = self.unique_names(split, used, by_stem=False)

    def image_file(self, split: str, index: int) -> Path:
        """Return {split}/{name}."""
        return Path(split, self._names[split][index])

    def add(self, split: str, index: int) -> None:
        """Collect the line of an image."""
        annotations = self.splits[split]
        objects = annotations.object_slice(index)
        height, width = annotations.sizes[index].tolist()
        record = {
            "file_name": str(self._names[split][index]),
            "width": width,
            "height": height,
            "objects": {
                "bbox": annotations.boxes[objects].tolist(),
                "categories": [self.classes[label - 1] for label in annotations.labels[objects].tolist()],
                "area": annotations.areas[objects].tolist(),
                "iscrowd": annotations.crowd[objects].astype(int).tolist(),
            },
        }
        self._lines[split].append(json.dumps(record, ensure_ascii=False))
        if self.masks and annotations.segmentations is not None:
            indices = range(objects.start, objects.stop)
            count = sum(annotations.segmentations[i] is not None for i in indices)
            if count:
                self.changes["segmentations left out, since ImageFolder's metadata has boxes only"] += count

    def finish(self) -> None:
        """Write the files of metadata."""
        for split in self.splits:
            file = self.folder / split / "metadata.jsonl"
            file.parent.mkdir(exist_ok=True)
            file.write_text("".join(f"{line}\n" for line in self._lines[split]), encoding="utf-8")

    def lost(self) -> list[str]:
        """Return the lines of all formats, and those about classes."""
        return [*super().lost(), *self.lost_classes(self.classes, "ImageFolder's")]
