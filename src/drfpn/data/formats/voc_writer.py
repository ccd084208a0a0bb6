"""Writing Pascal VOC's layout."""

import filecmp
import re
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

import numpy as np

from drfpn.data.formats.writer import Splits, Writer, image_name, unique
from drfpn.utils.errors import UserError

_NOT_IN_XML = re.compile(r"[\x00-\x1f\x7f\ufffe\uffff]")


class VocWriter(Writer):
    """JPEGImages/, Annotations/*.xml and ImageSets/Main/{split}.txt.

    Pixels are numbered from 1 as VOC does; positions between pixels are written as decimals, as VOC's own later files
    have them. Crowd regions are marked difficult. An image that is in two splits is stored once.
    """

    def __init__(self, folder: Path, splits: Splits, *, masks: bool) -> None:
        super().__init__(folder, splits, masks=masks)
        self._names_of_classes = [_class_name(name) for name in self.classes]
        if len(set(self._names_of_classes)) < len(self.classes):
            raise UserError("Two classes have the same name, which VOC cannot hold: it knows them by nothing else.")
        self._names: dict[tuple[str, int], PurePosixPath] = {}
        self._written: set[PurePosixPath] = set()
        self._used = np.zeros(len(self.classes), dtype=np.bool_)
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
        objects = annotations.objects(index)
        boxes = self.boxes_inside(split, index).tolist()
        labels, crowd = annotations.labels[objects].tolist(), annotations.crowd[objects].tolist()
        for box, label, difficult in zip(boxes, labels, crowd, strict=True):
            self._add_object(root, box, label, difficult)
        if self.masks and annotations.segmentations is not None:
            lost = sum(annotations.segmentations[place] is not None for place in range(objects.start, objects.stop))
            self.losses["segmentations left out, since VOC's XML has boxes only"] += lost
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
        """Return the lines of all formats, and what became of the classes."""
        lines = super().lost()
        unused = [name for name, used in zip(self._names_of_classes, self._used, strict=True) if not used]
        if unused:
            some = ", ".join(unused[:5]) + (", ..." if len(unused) > 5 else "")
            lines.append(f"classes left out, since no object has them ({some}): {len(unused)}")
        kept = [name for name in self._names_of_classes if name not in unused]
        if kept != sorted(kept):
            lines.append("the order of the classes is lost: VOC's are read in that of the alphabet")
        return lines

    def _choose_names(self) -> None:
        """Give each image a name of its own; one that is stored again in another split keeps its first one."""
        taken: set[str] = set()
        first: dict[PurePosixPath, tuple[str, int]] = {}
        for split, annotations in self.splits.items():
            for index, file_name in enumerate(annotations.file_names.tolist()):
                flat = PurePosixPath("_".join("_".join(image_name(file_name).parts).split()))
                if flat in first and self._are_same(first[flat], (split, index)):
                    self._names[split, index] = self._names[first[flat]]
                    continue
                first.setdefault(flat, (split, index))
                name = self._names[split, index] = unique(flat, taken, by_stem=True)
                if str(name) != file_name:
                    line = "images renamed, since VOC has no folders and no spaces, and one name for all splits"
                    self.losses[line] += 1

    def _are_same(self, one: tuple[str, int], other: tuple[str, int]) -> bool:
        """Tell whether images of two splits have the same bytes and the same objects."""
        (a, i), (b, j) = ((self.splits[split], index) for split, index in (one, other))
        ours, theirs = a.objects(i), b.objects(j)
        arrays = (a.boxes, b.boxes), (a.labels, b.labels), (a.crowd, b.crowd)
        if not all(np.array_equal(x[ours], y[theirs]) for x, y in arrays):
            return False
        files = a.path(i), b.path(j)
        if files[0] == files[1]:
            return True
        return all(file.is_file() for file in files) and filecmp.cmp(*files, shallow=False)

    def _add_object(self, root: ElementTree.Element, box: list[float], label: int, difficult: bool) -> None:
        self._used[label - 1] = True
        if difficult:
            self.losses["crowd regions marked difficult"] += 1
        node = ElementTree.SubElement(root, "object")
        _text(node, "name", self._names_of_classes[label - 1])
        _text(node, "pose", "Unspecified")
        _text(node, "truncated", "0")
        _text(node, "difficult", str(int(difficult)))
        bounds = ElementTree.SubElement(node, "bndbox")
        x, y, width, height = box
        for name, value in (("xmin", x + 1), ("ymin", y + 1), ("xmax", x + width), ("ymax", y + height)):
            _text(bounds, name, f"{value:.6f}".rstrip("0").rstrip("."))


def _class_name(name: str) -> str:
    stripped = name.strip()
    if not stripped or _NOT_IN_XML.search(stripped):
        raise UserError(f"The class name {name!r} cannot be written to VOC's XML, expected printable characters.")
    return stripped


def _text(parent: ElementTree.Element, name: str, text: str) -> None:
    ElementTree.SubElement(parent, name).text = text
