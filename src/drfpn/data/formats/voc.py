"""Reader of Pascal VOC's format: one XML file for each image, and lists of the images of each split."""

import math
import os
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from drfpn.data.annotation_builder import AnnotationBuilder
from drfpn.data.annotations import Annotations
from drfpn.data.image_io import IMAGE_SUFFIXES
from drfpn.data.progress import ProgressCallback
from drfpn.data.validation.issues import Issue, IssueHandler, raise_issue
from drfpn.utils.errors import UserError, did_you_mean

Trees = dict[str, ElementTree.Element]


def read_voc(root: str | os.PathLike[str], split: str) -> Annotations:
    """Read one split of a VOC folder: JPEGImages/, Annotations/*.xml, ImageSets/Main/{split}.txt.

    - VOC numbers pixels from 1, and xmax and ymax are inside the box: x1 = xmin - 1 and x2 = xmax, so a box
      with xmin = xmax is one pixel wide. xmin = 0, as some tools write, is taken as x1 = 0.
    - The classes are the sorted names in all XML files, not only those of the split, so that splits agree.
    - Image ids are 1, 2, ... over the sorted names of all splits, so that they stay the same in each.
    - Objects marked ``difficult`` become crowds: training does not use them, and a detection of one counts neither
      as a true nor as a false positive, as in VOC's own evaluation.

    Args:
        root: the folder.
        split: name of the split.

    Raises:
        UserError: the split or an XML file is missing, or an XML file cannot be read.
    """
    annotations = parse_voc(Path(root), split, raise_issue)
    assert annotations is not None  # else raise_issue has raised
    return annotations


def voc_splits(root: Path) -> tuple[str, ...]:
    """Return the splits in ImageSets/Main (without VOC's lists of one class, "cat_train")."""
    files = sorted((root / "ImageSets" / "Main").glob("*.txt"))
    return tuple(file.stem for file in files if len(file.read_text(errors="replace").partition("\n")[0].split()) <= 1)


def parse_voc(
    root: Path, split: str, on_issue: IssueHandler, progress: ProgressCallback | None = None
) -> Annotations | None:
    """Read the valid records of a split of a VOC folder and report the others; ``None`` if nothing is valid.

    Args:
        root: the folder.
        split: name of the split.
        on_issue: called with each issue.
        progress: called with the number of XML files read so far and the total.

    Raises:
        UserError: there is no such split.
    """
    splits = voc_splits(root)
    if split not in splits:
        existing = ", ".join(splits) or "none"
        raise UserError(
            f"{root / 'ImageSets' / 'Main'} has no {split}.txt, expected one of its splits: {existing}."
            + did_you_mean(split, splits)
        )
    stems = list(dict.fromkeys(_stems(root, split)))
    trees = _parse_all(root / "Annotations", on_issue, progress)
    if not stems:
        list_file = str(root / "ImageSets" / "Main" / f"{split}.txt")
        on_issue(Issue("no-images", list_file, "it lists no image", "one name a line"))
        return None
    classes = sorted({name for tree in trees.values() for name in _names(tree)})
    if not classes:
        observed = "no XML file holds an object with a name"
        on_issue(Issue("no-categories", str(root / "Annotations"), observed, "at least one class"))
        return None
    all_stems = sorted({stem for name in splits for stem in _stems(root, name)})
    image_ids = {stem: image_id for image_id, stem in enumerate(all_stems, start=1)}
    labels = {name: label for label, name in enumerate(classes, start=1)}
    objects, sizes = AnnotationBuilder(), []
    for index, stem in enumerate(stems):
        tree = trees.get(stem)
        sizes.append((0, 0) if tree is None else _size(tree))
        file = root / "Annotations" / f"{stem}.xml"
        if tree is not None:
            _add_objects(objects, tree, index, labels, str(file), on_issue)
        elif not file.is_file():
            expected = f"an annotation of the image that {split}.txt lists"
            on_issue(Issue("annotations-missing", str(file), "there is no such file", expected))
    return Annotations(
        root=root / "JPEGImages",
        source=root / "Annotations",
        classes=tuple(classes),
        category_ids=np.arange(1, len(classes) + 1),
        image_ids=np.array([image_ids[stem] for stem in stems], dtype=np.int64),
        file_names=np.array(_file_names(root / "JPEGImages", stems), dtype=np.str_),
        sizes=np.array(sizes, dtype=np.int64),
        **objects.arrays(len(stems)),
    )


def _stems(root: Path, split: str) -> list[str]:
    lines = (root / "ImageSets" / "Main" / f"{split}.txt").read_text(errors="replace").splitlines()
    return [line.split()[0] for line in lines if line.strip()]


def _file_names(folder: Path, stems: list[str]) -> list[str]:
    """Return the file name of each image with its suffix on disk; .jpg if the file is missing."""
    existing = {path.stem: path.name for path in folder.glob("*") if path.suffix.lower() in IMAGE_SUFFIXES}
    return [existing.get(stem, f"{stem}.jpg") for stem in stems]


def _parse_all(folder: Path, on_issue: IssueHandler, progress: ProgressCallback | None) -> Trees:
    trees: Trees = {}
    files = sorted(folder.glob("*.xml"))
    for done, file in enumerate(files, start=1):
        if progress is not None:
            progress(done, len(files))
        try:
            trees[file.stem] = ElementTree.parse(file).getroot()
        except (ElementTree.ParseError, LookupError, ValueError) as error:  # the latter two: of its encoding
            on_issue(Issue("not-voc", str(file), f"it is not XML ({error})", "a VOC annotation"))
    return trees


def _names(tree: ElementTree.Element) -> list[str]:
    names = [(node.findtext("name") or "").strip() for node in tree.findall("object")]
    return [name for name in names if name]


def _size(tree: ElementTree.Element) -> tuple[int, int]:
    """Return (height, width); (0, 0) if not annotated."""
    height, width = (_number(tree.findtext(f"size/{side}")) for side in ("height", "width"))
    if height is None or width is None or not (1 <= height < math.inf and 1 <= width < math.inf):
        return 0, 0
    return int(height), int(width)


def _add_objects(
    objects: AnnotationBuilder,
    tree: ElementTree.Element,
    image_index: int,
    labels: dict[str, int],
    source: str,
    on_issue: IssueHandler,
) -> None:
    for number, node in enumerate(tree.findall("object"), start=1):
        name = (node.findtext("name") or "").strip()
        location = f"{source}: object {number} ({name or 'without a name'})"
        if not name:
            on_issue(Issue("bad-record", location, "it has no <name>", "the name of its class"))
            continue
        bounds = node.find("bndbox")
        if bounds is None:
            on_issue(Issue("bad-record", location, "it has no <bndbox>", "xmin, ymin, xmax and ymax"))
            continue
        texts = {side: bounds.findtext(side) for side in ("xmin", "ymin", "xmax", "ymax")}
        numbers = {side: _number(text) for side, text in texts.items()}
        invalid = [side for side, number in numbers.items() if number is None]
        if invalid:
            observed = f"its <{invalid[0]}> is {texts[invalid[0]]!r}"
            on_issue(Issue("bad-record", location, observed, "a number"))
            continue
        xmin, ymin, xmax, ymax = (number for number in numbers.values() if number is not None)
        x, y = _left_edge(xmin), _left_edge(ymin)
        width, height = xmax - x, ymax - y
        objects.add(
            image_index=image_index,
            box=[x, y, width, height],
            label=labels[name],
            area=width * height,
            crowd=(node.findtext("difficult") or "").strip() == "1",
        )


def _left_edge(value: float) -> float:
    """Return the coordinate of the left or upper edge of VOC's pixel ``value``, numbered from 1."""
    return value - 1 if value >= 1 or math.isnan(value) else min(value, 0.0)


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None
