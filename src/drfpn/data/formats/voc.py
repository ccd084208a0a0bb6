"""Reader of Pascal VOC's format: one XML file for each image, and lists of the images of each split."""

import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from drfpn.data.annotation_builder import AnnotationBuilder
from drfpn.data.annotations import Annotations
from drfpn.data.formats.folder_pairs import FolderPair
from drfpn.data.formats.pairing import ImageChooser, unannotated_images
from drfpn.data.formats.voc_files import (
    ROOT_TAG,
    VocEntry,
    VocSource,
    list_folder,
    local_tag,
    voc_sources,
)
from drfpn.data.progress import ProgressCallback
from drfpn.data.validation.issues import Issue, IssueHandler, raise_issue
from drfpn.utils.errors import UserError, did_you_mean

Trees = dict[Path, ElementTree.Element]


def read_voc(root: str | os.PathLike[str], split: str) -> Annotations:
    """Read one split of a VOC folder: JPEGImages/, Annotations/*.xml, ImageSets/Main/{split}.txt.

    - VOC numbers pixels from 1, and xmax and ymax are inside the box: x1 = xmin - 1 and x2 = xmax, so a box
      with xmin = xmax is one pixel wide. xmin = 0, as some tools write, is taken as x1 = 0.
    - The classes are the sorted names in all XML files, not only those of the split, so that splits agree.
    - Image ids are 1, 2, ... over the sorted names of all splits, so that they stay the same in each.
    - Objects marked ``difficult`` become crowds: training does not use them, and a detection of one counts neither
      as a true nor as a false positive, as in VOC's own evaluation.
    - Images and XML files may be in subfolders. Which image a file annotates is told by ``pairing.ImageChooser``.
    - Without lists the splits are those of ``voc_files.voc_sources``, and hold the images that have an XML file.

    Args:
        root: the folder.
        split: name of the split.

    Raises:
        UserError: the split or an XML file is missing, or an XML file cannot be read.
    """
    annotations = parse_voc(Path(root), voc_sources(Path(root)), split, raise_issue)
    assert annotations is not None  # else raise_issue has raised
    return annotations


def parse_voc(
    root: Path,
    sources: Mapping[str, VocSource],
    split: str,
    on_issue: IssueHandler,
    progress: ProgressCallback | None = None,
) -> Annotations | None:
    """Read the valid records of a split of a VOC folder and report the others; ``None`` if nothing is valid.

    Args:
        root: the folder, for messages.
        sources: what each split is read from.
        split: name of the split.
        on_issue: called with each issue.
        progress: called with the number of XML files read so far and the total.

    Raises:
        UserError: there is no such split.
    """
    if split not in sources:
        existing = ", ".join(sources) or "none"
        raise UserError(
            f"{list_folder(root) or root} has no {split}.txt, expected one of its splits: {existing}."
            + did_you_mean(split, sources)
        )
    source = sources[split]
    entries = {name: other.entries() for name, other in sources.items()}
    trees = _parse_all([other.folders for other in sources.values()], on_issue, progress)
    if not entries[split]:
        observed = "it lists no image" if source.list_file else "it holds no XML file"
        location = str(source.list_file or source.folders.annotations)
        on_issue(Issue("no-images", location, observed, "one name a line" if source.list_file else "one an image"))
        return None
    classes = sorted({name for tree in trees.values() for name in _names(tree)})
    if not classes:
        observed = "no XML file holds an object with a name"
        on_issue(Issue("no-categories", str(source.folders.annotations), observed, "at least one class"))
        return None
    images = _choose_images(source, entries[split], trees, on_issue)
    image_ids = _image_ids(sources, entries)
    labels = {name: label for label, name in enumerate(classes, start=1)}
    objects, sizes = AnnotationBuilder(), []
    for index, (entry, _) in enumerate(images):
        tree = trees.get(entry.xml) if entry.xml is not None else None
        sizes.append((0, 0) if tree is None else _size(tree))
        if tree is not None:
            _add_objects(objects, tree, index, labels, str(entry.xml), on_issue)
    return Annotations(
        root=source.folders.images,
        source=source.folders.annotations,
        classes=tuple(classes),
        category_ids=np.arange(1, len(classes) + 1),
        image_ids=np.array([image_ids[source.folders.images, entry.key] for entry, _ in images], dtype=np.int64),
        file_names=np.array([image for _, image in images], dtype=np.str_),
        sizes=np.array(sizes, dtype=np.int64).reshape(-1, 2),
        annotation_files=np.array([str(_xml_file(source, entry)) for entry, _ in images], dtype=np.str_),
        **objects.arrays(len(images)),
    )


def _choose_images(
    source: VocSource, entries: list[VocEntry], trees: Trees, on_issue: IssueHandler
) -> list[tuple[VocEntry, str]]:
    """Return the entries with the paths of their images; without those whose image cannot be told."""
    folders = source.folders
    chooser = ImageChooser(folders.image_index, folders.annotation_index, "<filename>", on_issue)
    images = []
    for entry in entries:
        tree = trees.get(entry.xml) if entry.xml is not None else None
        if entry.xml is None:
            _report_missing(source, entry, on_issue)
        stated = None if tree is None else (tree.findtext("filename") or "").strip()
        image = chooser.choose(entry.key, _xml_file(source, entry), stated, listed=entry.image)
        if image is not None:
            images.append((entry, image))
    if source.list_file is None:
        for issue in unannotated_images(folders.image_index, {image for _, image in images}):
            on_issue(issue)
    return images


def _report_missing(source: VocSource, entry: VocEntry, on_issue: IssueHandler) -> None:
    file = _xml_file(source, entry)
    similar = source.folders.annotation_index.match_letters(entry.key)
    observed = "there is no such file" + (f", only '{similar}.xml'" if similar is not None else "")
    expected = f"an annotation of the image that {source.list_file.name if source.list_file else 'a list'} lists"
    on_issue(Issue("annotations-missing", str(file), observed, expected))


def _xml_file(source: VocSource, entry: VocEntry) -> Path:
    """Return the XML file of an image, or the path that a missing one should have."""
    return entry.xml if entry.xml is not None else source.folders.annotations / f"{entry.key}.xml"


def _image_ids(sources: Mapping[str, VocSource], entries: Mapping[str, list[VocEntry]]) -> dict[tuple[Path, str], int]:
    """Return the id of each image of all splits, by its folder and key."""
    keys = {(sources[split].folders.images, entry.key) for split, others in entries.items() for entry in others}
    return {key: image_id for image_id, key in enumerate(sorted(keys), start=1)}


def _parse_all(folders: Iterable[FolderPair], on_issue: IssueHandler, progress: ProgressCallback | None) -> Trees:
    trees: Trees = {}
    files = dict.fromkeys(file for pair in folders for file in pair.annotation_index.paths())
    for done, file in enumerate(files, start=1):
        if progress is not None:
            progress(done, len(files))
        try:
            tree = ElementTree.parse(file).getroot()
        except OSError as error:
            on_issue(Issue("not-voc", str(file), f"it cannot be read ({error.strerror})", "a VOC annotation"))
            continue
        except (ElementTree.ParseError, LookupError, ValueError) as error:  # the latter two: of its encoding
            on_issue(Issue("not-voc", str(file), f"it is not XML ({error})", "a VOC annotation"))
            continue
        for node in tree.iter():
            node.tag = local_tag(node)
        if tree.tag != ROOT_TAG:
            on_issue(Issue("not-voc", str(file), f"its root is <{tree.tag}>", f"<{ROOT_TAG}>, as of a VOC annotation"))
            continue
        trees[file] = tree
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
    nodes = tree.findall("object")
    unreached = _count_boxes(tree) - sum(map(_count_boxes, nodes))
    if unreached:
        observed = f"it has {unreached} <bndbox> outside of the <object> of its <{ROOT_TAG}>"
        on_issue(Issue("bad-record", source, observed, "each in an <object> directly below the root"))
    for number, node in enumerate(nodes, start=1):
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
            crowd=(node.findtext("difficult") or "").strip().lower() in ("1", "true"),
        )


def _count_boxes(node: ElementTree.Element) -> int:
    return sum(child.tag.lower() == "bndbox" for child in node.iter())


def _left_edge(value: float) -> float:
    """Return the coordinate of the left or upper edge of VOC's pixel ``value``, numbered from 1."""
    return value - 1 if value >= 1 or math.isnan(value) else min(value, 0.0)


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None
