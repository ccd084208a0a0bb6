"""Writer of Pascal VOC's format: one XML file for each image, and lists of the images of each split."""

import filecmp
import re
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

import numpy as np

from drfpn.data.formats.base_writer import DatasetWriter, Splits, image_name, unique_name
from drfpn.utils.errors import UserError

_INVALID_IN_XML = re.compile(r"[\x00-\x1f\x7f\ufffe\uffff]")


class VocWriter(DatasetWriter):
    """Writes JPEGImages/, Annotations/*.xml and ImageSets/Main/{split}.txt.

    Pixels are numbered from 1 as in VOC; fractional coordinates are written as decimals, as in VOC's later files.
    Crowds are marked difficult. An image that is in two splits is stored once.

    Args:
        folder: as of ``DatasetWriter``.
        splits: as of ``DatasetWriter``.
        masks: only counts the segmentations that are lost: the XML files hold boxes only.

    Raises:
        UserError: VOC cannot hold the names of the classes.
    """

    def __init__(self, folder: Path, splits: Splits, *, masks: bool) -> None:
        super().__init__(folder, splits, masks=masks)
        self._class_names = [_class_name(name) for name in self.classes]
        if len(set(self._class_names)) < len(self.classes):
            raise UserError(
                "Two classes have the same name, which VOC cannot hold: it identifies them by nothing else."
            )
        self._names: dict[tuple[str, int], PurePosixPath] = {}
        self._written: set[PurePosixPath] = set()
        self._choose_names()
        for folder_name in ("Annotations", "JPEGImages", "ImageSets/Main"):
            (folder / folder_name).mkdir(parents=True)

    def image_file(self, split: str, index: int) -> Path:
        """Return JPEGImages/{name}."""
        return Path("JPEGImages", self._names[split, index])

    def add(self, split: str, index: int) -> None:
        """Write the XML file of an image, unless it belongs to an earlier split as well."""
        annotations = self.splits[split]
        name = self._names[split, index]
        if name in self._written:
            return
        self._written.add(name)
        height, width = annotations.sizes[index].tolist()
        root = ElementTree.Element("annotation")
        _text(root, "folder", "JPEGImages")
        _text(root, "filename", str(name))
        size = ElementTree.SubElement(root, "size")
        for side, value in (("width", width), ("height", height), ("depth", 3)):
            _text(size, side, str(value))
        _text(root, "segmented", "0")
        objects = annotations.object_slice(index)
        boxes = self.clipped_boxes(split, index).tolist()
        labels, crowd = annotations.labels[objects].tolist(), annotations.crowd[objects].tolist()
        for box, label, difficult in zip(boxes, labels, crowd, strict=True):
            self._add_object(root, box, label, difficult)
        if self.masks and annotations.segmentations is not None:
            indices = range(objects.start, objects.stop)
            count = sum(annotations.segmentations[i] is not None for i in indices)
            self.changes["segmentations left out, since VOC's XML has boxes only"] += count
        ElementTree.indent(root)
        file = (self.folder / "Annotations" / name).with_suffix(".xml")
        ElementTree.ElementTree(root).write(file, encoding="utf-8")

    def finish(self) -> None:
        """Write the lists of the splits."""
        for split, annotations in self.splits.items():
            stems = [self._names[split, index].stem for index in range(len(annotations))]
            file = self.folder / "ImageSets" / "Main" / f"{split}.txt"
            file.write_text("".join(f"{stem}\n" for stem in stems), encoding="utf-8")

    def lost(self) -> list[str]:
        """Return the lines of all formats, and those about classes."""
        return [*super().lost(), *self.lost_classes(self._class_names, "VOC's")]

    def _choose_names(self) -> None:
        """Choose a unique name for each image; the same image in another split keeps its first name."""
        used: set[str] = set()
        first: dict[PurePosixPath, tuple[str, int]] = {}
        for split, annotations in self.splits.items():
            for index, file_name in enumerate(annotations.file_names.tolist()):
                flat = PurePosixPath("_".join("_".join(image_name(file_name).parts).split()))
                if flat in first and self._are_equal(first[flat], (split, index)):
                    self._names[split, index] = self._names[first[flat]]
                    continue
                first.setdefault(flat, (split, index))
                name = self._names[split, index] = unique_name(flat, used, by_stem=True)
                if str(name) != file_name:
                    line = "images renamed, since VOC has no folders and no spaces, and one name for all splits"
                    self.changes[line] += 1

    def _are_equal(self, one: tuple[str, int], other: tuple[str, int]) -> bool:
        """Return whether images of two splits have the same bytes and the same objects."""
        (a, i), (b, j) = ((self.splits[split], index) for split, index in (one, other))
        a_objects, b_objects = a.object_slice(i), b.object_slice(j)
        arrays = (a.boxes, b.boxes), (a.labels, b.labels), (a.crowd, b.crowd)
        if not all(np.array_equal(x[a_objects], y[b_objects]) for x, y in arrays):
            return False
        files = a.path(i), b.path(j)
        if files[0] == files[1]:
            return True
        return all(file.is_file() for file in files) and filecmp.cmp(*files, shallow=False)

    def _add_object(self, root: ElementTree.Element, box: list[float], label: int, difficult: bool) -> None:
        if difficult:
            self.changes["crowds marked difficult"] += 1
        node = ElementTree.SubElement(root, "object")
        _text(node, "name", self._class_names[label - 1])
        _text(node, "pose", "Unspecified")
        _text(node, "truncated", "0")
        _text(node, "difficult", str(int(difficult)))
        bounds = ElementTree.SubElement(node, "bndbox")
        x, y, width, height = box
        for name, value in (("xmin", x + 1), ("ymin", y + 1), ("xmax", x + width), ("ymax", y + height)):
            _text(bounds, name, f"{value:.6f}".rstrip("0").rstrip("."))


def _class_name(name: str) -> str:
    stripped = name.strip()
    if not stripped or _INVALID_IN_XML.search(stripped):
        raise UserError(f"The class name {name!r} cannot be written to VOC's XML, expected printable characters.")
    return stripped


def _text(parent: ElementTree.Element, name: str, text: str) -> None:
    ElementTree.SubElement(parent, name).text = text
