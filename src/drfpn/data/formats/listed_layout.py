"""``ListedLayout``: a data set whose splits are lists of images, as ``data split`` writes them."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from drfpn.data.annotations import Annotations
from drfpn.data.formats.base_layout import Layout
from drfpn.data.formats.files import read_lines, split_lines
from drfpn.data.progress import ProgressCallback
from drfpn.data.validation.issues import Issue, IssueHandler
from drfpn.utils.errors import UserError

NAMES = ("train", "val", "test")


@dataclass(frozen=True)
class ListedLayout(Layout):
    """A data set of which one split is divided by lists of file names, one image a line.

    A line is the path of an image from the folder of the images, with or without its suffix.
    """

    base: Layout
    """The data set without the lists."""
    source: str
    """The split of ``base`` that is divided."""
    folder: Path
    """Holds train.txt, val.txt and test.txt, or some of them."""

    def image_folders(self, split: str) -> tuple[Path, ...]:
        """Return the folders that are searched for the images of a split."""
        return self.base.image_folders(self._base_split(split))

    def label_files(self, split: str) -> tuple[Path, ...]:
        """Return the files on disk that each annotate one image, of all listed splits."""
        files = self.base.label_files(self._base_split(split))
        return tuple(file for file in files if file.parent != self.folder)

    def parse(
        self,
        split: str,
        on_issue: IssueHandler,
        progress: ProgressCallback | None = None,
        *,
        segmentations: bool = True,
    ) -> Annotations | None:
        """Read the valid records of a split."""
        annotations = self.base.parse(self._base_split(split), on_issue, progress, segmentations=segmentations)
        file = self._file(split)
        if annotations is None or not file.is_file():
            return annotations
        images = _Images(annotations)
        names = list(dict.fromkeys(read_lines(file)))
        indices = list(map(images.find, names))
        for name, index in zip(names, indices, strict=True):
            if index is None:
                observed = f"it lists '{name}', which is not an image of the data set"
                on_issue(Issue("listed-image-missing", str(file), observed, "the path of an image from the folder"))
        listed = sorted({index for index in indices if index is not None})
        if not listed:
            on_issue(Issue("no-images", str(file), "it lists no image of the data set", "one image a line"))
            return None
        self._report_others(split, images, on_issue)
        return annotations.select_images(np.array(listed, dtype=np.int64))

    def _base_split(self, split: str) -> str:
        return self.source if self._file(split).is_file() else split

    def _file(self, split: str) -> Path:
        return self.folder / f"{split}.txt"

    def _report_others(self, split: str, images: "_Images", on_issue: IssueHandler) -> None:
        """Report images that are in two lists, and with the first list those that are in none."""
        files = [self._file(name) for name in NAMES if self._file(name).is_file()]
        lists = {
            file: {index for name in read_lines(file) if (index := images.find(name)) is not None} for file in files
        }
        own = lists[self._file(split)]
        counts = Counter(index for indices in lists.values() for index in indices)
        for index in sorted(index for index in own if counts[index] > 1):
            others = [file.stem for file, indices in lists.items() if index in indices and file.stem != split]
            observed = f"it is in the lists of {split} and {others[0]}"
            path = str(images.annotations.path(index))
            on_issue(Issue("image-in-two-splits", path, observed, "one list", fatal=False))
        if files[0] == self._file(split):
            for index in range(len(images.annotations)):
                if index not in counts:
                    path, observed = str(images.annotations.path(index)), f"it is in no list of {self.folder}"
                    on_issue(Issue("unlisted-image", path, observed, "one list", fatal=False))


def with_lists(layout: Layout) -> Layout:
    """Return a layout whose images are divided by lists, if there are lists for its only split or for ``train``.

    Lists are not used if the data set has ``train`` and ``val`` without them.

    Args:
        layout: the data set.
    """
    folder, source = list_folder(layout), source_split(layout)
    listed = tuple(name for name in NAMES if (folder / f"{name}.txt").is_file())
    if source is None or "train" not in listed:
        return layout
    others = tuple(split for split in layout.splits if split not in (source, *listed))
    return ListedLayout(layout.root, (*listed, *others), layout, source, folder)


def list_folder(layout: Layout) -> Path:
    """Return the folder of the lists of a data set: splits/ in its folder, or NAME.splits/ beside its file."""
    return layout.root / "splits" if layout.root.is_dir() else layout.root.with_suffix(".splits")


def source_split(layout: Layout) -> str | None:
    """Return the split that lists divide: the only one, or ``train`` or ``trainval`` without ``val``; else ``None``."""
    if len(layout.splits) == 1:
        return layout.splits[0]
    if "val" in layout.splits:
        return None
    return next((name for name in ("train", "trainval") if name in layout.splits), None)


def require_listable(annotations: Annotations) -> None:
    """Raise if a list could not tell one of the images by the name in its line.

    Args:
        annotations: the images that are divided.

    Raises:
        UserError: the name of an image has an end of a line, is no UTF-8, or differs too little from another one.
    """
    first: dict[str, str] = {}
    for name in annotations.file_names.tolist():
        shown = name.encode("utf-8", "backslashreplace").decode()
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise UserError(
                f"The name of the image {shown!r} is not UTF-8, expected one that a list can hold."
            ) from error
        if len(split_lines(name)) != 1 or name.startswith("\ufeff"):
            raise UserError(f"The image {shown!r} cannot be listed, expected a name without ends of lines.")
        if (other := first.setdefault(_listed_name(name), name)) != name:
            raise UserError(
                f"The images {other!r} and {name!r} are one in a list, expected names that differ in more than spaces "
                "around them or \\ for /."
            )


def _listed_name(name: str) -> str:
    return name.strip().replace("\\", "/")


class _Images:
    """The images of a data set by their names in lists.

    Args:
        annotations: of the split that is divided.
    """

    def __init__(self, annotations: Annotations) -> None:
        self.annotations = annotations
        self._by_name = {_listed_name(name): index for index, name in enumerate(annotations.file_names.tolist())}
        stems = Counter(map(_without_suffix, self._by_name))
        self._by_stem = {
            stem: index for name, index in self._by_name.items() if stems[stem := _without_suffix(name)] == 1
        }

    def find(self, name: str) -> int | None:
        """Return the index of the image of a name, which may lack the suffix if only one image fits."""
        name = name.replace("\\", "/")
        return self._by_name.get(name, self._by_stem.get(name))


def _without_suffix(name: str) -> str:
    return name.removesuffix(Path(name).suffix)
