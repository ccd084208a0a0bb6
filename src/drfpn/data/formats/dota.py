"""Reader of DOTA's labels: quadrilaterals in text files, one for each image."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from drfpn.data.annotations import Annotations
from drfpn.data.formats.base_layout import Layout
from drfpn.data.formats.coco_records import CocoRecords
from drfpn.data.formats.image_names import direct_or_below
from drfpn.data.formats.split_names import is_split_name, name_splits
from drfpn.data.progress import ProgressCallback
from drfpn.data.validation.issues import Issue, IssueHandler
from drfpn.utils.errors import UserError

_LABELS = "labelTxt*"
"""Pattern of the folder of labels: labelTxt, or labelTxt-v1.5 and the like."""

_HEADERS = ("imagesource:", "gsd:", "acquisition dates:", "acquisition date:")


@dataclass(frozen=True)
class DotaLayout(Layout):
    """DOTA's layout: {split}/images/ and {split}/labelTxt/, or both without folders of splits."""

    folders: dict[str, tuple[Path, Path]]
    """Folder of images and folder of labels of each split."""

    def image_folders(self, split: str) -> tuple[Path, ...]:
        """Return the folder of images of a split."""
        return (self.folders[split][0],)

    def label_files(self, split: str) -> tuple[Path, ...]:
        """Return the text files of a split."""
        return tuple(_label_files(self.folders[split][1]))

    def parse(
        self,
        split: str,
        on_issue: IssueHandler,
        progress: ProgressCallback | None = None,
        *,
        segmentations: bool = True,
    ) -> Annotations | None:
        """Read the valid records of a split.

        A box is the smallest upright one around a quadrilateral, which is the segmentation. Objects of difficulty 1 and
        2 become crowds. Classes are those of all splits in alphabetical order.
        """
        images, labels = self.folders[split]
        files: dict[str, Path] = {}
        for file in _label_files(labels):
            if (other := files.setdefault(file.stem, file)) != file:
                observed = f"'{file.relative_to(labels)}' and '{other.relative_to(labels)}' are of one image"
                on_issue(Issue("image-ambiguous", str(labels), observed, "one label file for each image"))
        records = CocoRecords(labels, on_issue, segmentations=segmentations)
        classes = sorted({words[8] for _, folder in self.folders.values() for words in _all_objects(folder)})
        for index, name in enumerate(classes):
            records.add_category(index, {"id": index + 1, "name": name})
        paths = direct_or_below(images)
        labeled = []
        for stem, group in _by_stem(paths).items():
            if len(group) > 1 and stem in files:
                observed = f"several images have its name: {', '.join(path.name for path in group)}"
                on_issue(Issue("image-ambiguous", str(files[stem]), observed, "one image"))
            elif stem in files:
                labeled += group
        if missing := [path.name for path in paths if path.stem not in files]:
            observed = f"{len(missing)} of {len(paths)} images have no label file and are left out ({missing[0]})"
            on_issue(Issue("left-out-images", str(labels), observed, "a text file for each image", fatal=False))
        count = 0
        for index, path in enumerate(labeled):
            records.add_image(index, {"id": index + 1, "file_name": path.relative_to(images).as_posix()})
            for number, words in _objects(files[path.stem]):
                try:
                    record = _record(words)
                except ValueError as error:
                    where, expected = f"{files[path.stem]}: line {number}", "x1 y1 x2 y2 x3 y3 x4 y4 class difficulty"
                    on_issue(Issue("bad-record", where, f"it cannot be read ({error})", expected))
                    continue
                count += 1
                ids = {"id": count, "image_id": index + 1, "category_id": classes.index(words[8]) + 1}
                records.add_annotation(count - 1, record | ids)
            if progress is not None:
                progress(index + 1, len(labeled))
        annotations = records.annotations(images)
        if annotations is None:
            return None
        names = [str(files[Path(name).stem]) for name in annotations.file_names.tolist()]
        return replace(annotations, annotation_files=np.array(names, dtype=np.str_))


def find_dota_layout(root: Path) -> DotaLayout | None:
    """Return the layout of a folder in DOTA's format; ``None`` if it is none."""
    below = {folder.name: _pair(folder) for folder in sorted(root.iterdir()) if is_split_name(folder.name)}
    pairs = {name: pair for name, pair in below.items() if pair is not None}
    if not pairs and (pair := _pair(root)) is not None:
        pairs = {"all": pair}
    names = name_splits(pairs)
    return DotaLayout(root, tuple(names), {split: pairs[name] for split, name in names.items()}) if pairs else None


def _pair(folder: Path) -> tuple[Path, Path] | None:
    labels = [path for path in sorted(folder.glob(_LABELS)) if path.is_dir()]
    return (folder / "images", labels[-1]) if labels else None


def _label_files(folder: Path) -> Iterator[Path]:
    """Return the text files in a folder, or else those in its subfolders, sorted."""
    files = sorted(folder.glob("*.txt")) or sorted(folder.rglob("*.txt"))
    return (file for file in files if not file.name.startswith("."))


def _by_stem(paths: Iterable[Path]) -> dict[str, list[Path]]:
    groups: dict[str, list[Path]] = {}
    for path in paths:
        groups.setdefault(path.stem, []).append(path)
    return groups


def _all_objects(folder: Path) -> Iterator[list[str]]:
    return (words for file in _label_files(folder) for _, words in _objects(file) if len(words) > 8)


def _objects(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number, from 1, and the words of each line that is not empty and no header.

    Raises:
        UserError: the file is not UTF-8: decoded otherwise, different names of classes might become one.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: it is not UTF-8 ({error.reason}), expected DOTA's labels in UTF-8.") from error
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if words and not line.strip().startswith(_HEADERS):
            yield number, words


def _record(words: list[str]) -> dict[str, object]:
    """Return the record of an object in COCO's terms."""
    if len(words) not in (9, 10):
        raise ValueError(f"it has {len(words)} values")
    values = [float(word) for word in words[:8]]
    xs, ys = values[::2], values[1::2]
    box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    area = abs(sum(xs[i - 1] * ys[i] - xs[i] * ys[i - 1] for i in range(4))) / 2
    difficult = len(words) == 10 and int(words[9]) > 0
    return {"bbox": box, "area": area or None, "segmentation": [values], "iscrowd": int(difficult)}
