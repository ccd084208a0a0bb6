"""Reading Pascal VOC's format."""

import math
import os
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from drfpn.data.annotation_builder import ObjectLists
from drfpn.data.annotations import Annotations
from drfpn.data.image_io import IMAGE_SUFFIXES
from drfpn.data.validation.problems import Problem, Progress, Report, raise_problem
from drfpn.utils.errors import UserError, did_you_mean

Trees = dict[str, ElementTree.Element]


def read_voc(root: str | os.PathLike[str], split: str) -> Annotations:
    """Read one split of a VOC folder: JPEGImages/, Annotations/*.xml, ImageSets/Main/{split}.txt.

    - VOC's pixels are numbered from 1 and xmax, ymax belong to the box: x1 = xmin - 1 and x2 = xmax, so a box
      with xmin = xmax is one pixel wide. xmin = 0, as some tools write, is taken as x1 = 0.
    - The classes are the sorted names in all XML files, not only those of the split, so that splits agree.
    - Image ids are 1, 2, ... over the sorted names of all splits, so that they stay the same in each.
    - Objects marked ``difficult`` become crowd regions: training does not see them, and a detection of one
      counts neither for nor against the detector. VOC's own evaluation treats them so.

    Raises:
        UserError: The split or an XML file is missing, or an XML file cannot be read.
    """
    annotations = parse_voc(Path(root), split, raise_problem)
    assert annotations is not None  # the report raises where there is nothing to return
    return annotations


def voc_splits(root: Path) -> tuple[str, ...]:
    """Return the names in ImageSets/Main that list images (VOC's files of one class, "cat_train", do not)."""
    files = sorted((root / "ImageSets" / "Main").glob("*.txt"))
    return tuple(file.stem for file in files if len(file.read_text(errors="replace").partition("\n")[0].split()) <= 1)


def parse_voc(root: Path, split: str, report: Report, progress: Progress | None = None) -> Annotations | None:
    """Read what is sound in a split of a VOC folder and report the rest; ``None`` if nothing is.

    Args:
        root: The folder.
        split: Its name.
        report: Receives what is wrong.
        progress: Is called with the number of XML files read so far, and of all.

    Raises:
        UserError: There is no such split.
    """
    splits = voc_splits(root)
    if split not in splits:
        there = ", ".join(splits) or "none"
        raise UserError(
            f"{root / 'ImageSets' / 'Main'} has no {split}.txt, expected one of its splits: {there}."
            + did_you_mean(split, splits)
        )
    stems = list(dict.fromkeys(_stems(root, split)))
    trees = _parse_all(root / "Annotations", report, progress)
    if not stems:
        where = str(root / "ImageSets" / "Main" / f"{split}.txt")
        report(Problem("no-images", where, "it lists no image", "one name a line"))
        return None
    classes = sorted({name for tree in trees.values() for name in _names(tree)})
    if not classes:
        found = "no XML file holds an object with a name"
        report(Problem("no-categories", str(root / "Annotations"), found, "at least one class"))
        return None
    numbers = {stem: k for k, stem in enumerate(sorted({s for n in splits for s in _stems(root, n)}), start=1)}
    labels = {name: label for label, name in enumerate(classes, start=1)}
    objects, sizes = ObjectLists(), []
    for index, stem in enumerate(stems):
        tree = trees.get(stem)
        sizes.append((0, 0) if tree is None else _size(tree))
        file = root / "Annotations" / f"{stem}.xml"
        if tree is not None:
            _add_objects(objects, tree, index, labels, str(file), report)
        elif not file.is_file():
            listed = f"an annotation of the image that {split}.txt lists"
            report(Problem("annotations-missing", str(file), "there is no such file", listed))
    return Annotations(
        root=root / "JPEGImages",
        source=root / "Annotations",
        classes=tuple(classes),
        category_ids=np.arange(1, len(classes) + 1),
        image_ids=np.array([numbers[stem] for stem in stems], dtype=np.int64),
        file_names=np.array(_file_names(root / "JPEGImages", stems), dtype=np.str_),
        sizes=np.array(sizes, dtype=np.int64),
        **objects.arrays(len(stems)),
    )


def _stems(root: Path, split: str) -> list[str]:
    lines = (root / "ImageSets" / "Main" / f"{split}.txt").read_text(errors="replace").splitlines()
    return [line.split()[0] for line in lines if line.strip()]


def _file_names(folder: Path, stems: list[str]) -> list[str]:
    """Return the name of each image with the suffix it has on disk; .jpg for one that is not there."""
    there = {path.stem: path.name for path in folder.glob("*") if path.suffix.lower() in IMAGE_SUFFIXES}
    return [there.get(stem, f"{stem}.jpg") for stem in stems]


def _parse_all(folder: Path, report: Report, progress: Progress | None) -> Trees:
    trees: Trees = {}
    files = sorted(folder.glob("*.xml"))
    for done, file in enumerate(files, start=1):
        if progress is not None:
            progress(done, len(files))
        try:
            trees[file.stem] = ElementTree.parse(file).getroot()
        except (ElementTree.ParseError, LookupError, ValueError) as error:  # the latter two: its encoding
            report(Problem("not-voc", str(file), f"it is not XML ({error})", "a VOC annotation"))
    return trees


def _names(tree: ElementTree.Element) -> list[str]:
    names = [(node.findtext("name") or "").strip() for node in tree.findall("object")]
    return [name for name in names if name]


def _size(tree: ElementTree.Element) -> tuple[int, int]:
    """Return (height, width); (0, 0) where the file does not say."""
    height, width = (_number(tree.findtext(f"size/{side}")) for side in ("height", "width"))
    if height is None or width is None or not (1 <= height < math.inf and 1 <= width < math.inf):
        return 0, 0
    return int(height), int(width)


def _add_objects(
    objects: ObjectLists,
    tree: ElementTree.Element,
    image: int,
    labels: dict[str, int],
    source: str,
    report: Report,
) -> None:
    for number, node in enumerate(tree.findall("object"), start=1):
        name = (node.findtext("name") or "").strip()
        where = f"{source}: object {number} ({name or 'without a name'})"
        if not name:
            report(Problem("bad-record", where, "it has no <name>", "the name of its class"))
            continue
        bounds = node.find("bndbox")
        if bounds is None:
            report(Problem("bad-record", where, "it has no <bndbox>", "xmin, ymin, xmax and ymax"))
            continue
        texts = {side: bounds.findtext(side) for side in ("xmin", "ymin", "xmax", "ymax")}
        numbers = {side: _number(text) for side, text in texts.items()}
        wrong = [side for side, number in numbers.items() if number is None]
        if wrong:
            found = f"its <{wrong[0]}> is {texts[wrong[0]]!r}"
            report(Problem("bad-record", where, found, "a number"))
            continue
        xmin, ymin, xmax, ymax = (number for number in numbers.values() if number is not None)
        x, y = _from_one(xmin), _from_one(ymin)
        width, height = xmax - x, ymax - y
        objects.add(
            image=image,
            box=[x, y, width, height],
            label=labels[name],
            area=width * height,
            crowd=(node.findtext("difficult") or "").strip() == "1",
        )


def _from_one(value: float) -> float:
    """Return where the pixel that VOC numbers ``value`` begins."""
    return value - 1 if value >= 1 or math.isnan(value) else min(value, 0.0)


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None
