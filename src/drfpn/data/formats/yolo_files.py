"""Images of a split of a YOLO data set, and the label file of each."""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from drfpn.data.formats.files import FileFinder, fold, letters, list_files, read_lines
from drfpn.data.formats.yolo_yaml import YoloConfig
from drfpn.data.image_formats import is_image_file
from drfpn.data.validation.issues import Issue
from drfpn.utils.errors import UserError

LABEL_FOLDER = "labels"
NAME_FILES = ("classes.txt", "obj.names", "classes.names", "_darknet.labels", "labels.txt")
"""Files with the names of the classes, in the order of preference; tools differ in it."""

_IMAGE_FOLDERS = ("images", "jpegimages")
# Label Studio puts such a prefix before the names of uploaded images.
_PREFIX = re.compile(r"[0-9a-f]{8}[-_](.+)")


def list_images(config: YoloConfig, split: str) -> tuple[Path, list[Path]]:
    """Return the folder that holds all images of a split, and their paths: sorted by folder, or as a .txt lists them.

    Args:
        config: configuration of the data set.
        split: one of ``config.sources``.

    Raises:
        UserError: a folder or .txt file does not exist.
    """
    images: list[Path] = []
    folders = []
    finder = FileFinder()
    for source in config.sources[split]:
        if source.is_dir():
            folders.append(source)
            images += list_files(source, is_image_file)
        elif source.is_file():
            listed_images = [listed_path(line, source, config.root, finder) for line in read_lines(source)]
            folders += dict.fromkeys(path.parent for path in listed_images)
            images += listed_images
        else:
            raise UserError(
                f"{config.file}: {split} is '{source}', which does not exist, expected a folder of images or a .txt "
                "file that lists them ('download' is never followed)."
            )
    return _common_folder(folders), images


def find_labels(config: YoloConfig, images: list[Path]) -> tuple[list[Path], list[Issue]]:
    """Return the path of the label file of each image, and issues of label files that do not fit the images.

    The paths are by the first rule with which any of the files exists. Of ``a/images/b/c.jpg`` that is
    ``a/labels/b/c.txt`` (the last folder called ``images`` or ``JPEGImages`` is replaced). Images that are in no such
    folder have theirs in ``labels/`` of the data set, with the same relative path, or in their own folder. Where there
    is no such file, the only one that differs in letter case or Unicode form is taken.

    Args:
        config: configuration of the data set.
        images: paths of the images.
    """
    finder = FileFinder()
    rules = (
        lambda image: _label_in_known_folder(image, config),
        label_in_labels_folder,
        lambda image: _label_below_root(image, config.root),
        lambda image: image.with_suffix(".txt"),
    )
    chosen: tuple[list[Path], list[Path | None]] | None = None
    for rule in rules:
        labels = [label for image in images if (label := rule(image)) is not None]
        if len(labels) != len(images):
            continue
        existing_labels = [finder.find(label) for label in labels]
        if chosen is None or any(existing_labels):
            chosen = labels, existing_labels
        if any(existing_labels):
            break
    assert chosen is not None  # the last rule is for any image
    labels, existing_labels = chosen
    issues = [*_shared_labels(images, existing_labels), *_unmatched_labels(images, labels, existing_labels, finder)]
    return [path or label for label, path in zip(labels, existing_labels, strict=True)], issues


def label_in_labels_folder(image: Path) -> Path | None:
    """Return the path of the label file with the last folder ``images`` replaced by ``labels``; ``None`` without it."""
    parts = list(image.parts)
    positions = [position for position, part in enumerate(parts[:-1]) if part.lower() in _IMAGE_FOLDERS]
    if not positions:
        return None
    parts[positions[-1]] = LABEL_FOLDER
    return Path(*parts).with_suffix(".txt")


def is_label_file(path: Path) -> bool:
    """Return whether a path is that of a .txt file that does not have the name of a list of classes."""
    return path.suffix.lower() == ".txt" and path.name.lower() not in NAME_FILES


def listed_path(line: str, list_file: Path, root: Path, finder: FileFinder) -> Path:
    """Return the path that a line of a .txt file or a value of an obj.data file means.

    Relative paths start from the file, or else from the data set. If there is no such file, folders of another computer
    before the data set, such as darknet's ``data``, are left out, and letter case and Unicode form may differ.

    Args:
        line: the path as written.
        list_file: file that it is written in.
        root: folder of the data set.
        finder: finds the files.
    """
    beside = list_file.parent / line
    parts = line.replace("\\", "/").split("/")
    known = {"data", root.name, list_file.parent.name}
    starts = [0, *(position + 1 for position, part in enumerate(parts[:-1]) if part in known)]
    candidates = [beside, root / line]
    candidates += [folder.joinpath(*parts[start:]) for start in starts for folder in (list_file.parent, root)]
    for candidate in candidates:
        if candidate.exists():
            return candidate
    return next((path for candidate in candidates if (path := finder.find(candidate)) is not None), beside)


def _label_in_known_folder(image: Path, config: YoloConfig) -> Path | None:
    for images, labels in config.label_folders.items():
        if image.is_relative_to(images):
            return (labels / image.relative_to(images)).with_suffix(".txt")
    return None


def _label_below_root(image: Path, root: Path) -> Path | None:
    return (root / LABEL_FOLDER / image.relative_to(root)).with_suffix(".txt") if image.is_relative_to(root) else None


def _shared_labels(images: list[Path], existing_labels: list[Path | None]) -> Iterator[Issue]:
    """Yield an issue for each label file that several images have."""
    owners: dict[Path, Path] = {}
    for image, label in zip(images, existing_labels, strict=True):
        if label is not None and (owner := owners.setdefault(label, image)) != image:
            names = f"'{owner.name}' and '{image.name}'"
            yield Issue("image-ambiguous", str(label), f"it belongs to both {names}", "a label file for one image")


def _unmatched_labels(
    images: list[Path], labels: list[Path], existing_labels: list[Path | None], finder: FileFinder
) -> Iterator[Issue]:
    """Yield an issue for each label file without an image whose name resembles that of an image without labels."""
    used = set(existing_labels)
    missing: dict[Path, list[tuple[Path, Path]]] = defaultdict(list)
    for image, label, path in zip(images, labels, existing_labels, strict=True):
        if path is None:
            missing[label.parent].append((image, label))
    for folder, pairs in missing.items():
        unused: dict[str, list[Path]] = defaultdict(list)
        existing = finder.find(folder)
        for file in existing.iterdir() if existing is not None and existing.is_dir() else ():
            if is_label_file(file) and file not in used:
                prefix = _PREFIX.fullmatch(fold(file.stem))
                for name in {letters(file.stem), letters(prefix[1]) if prefix else ""} - {""}:
                    unused[name].append(file)
        for image, label in pairs:
            for file in dict.fromkeys(unused.get(letters(label.stem), [])):
                observed = (
                    f"it belongs to no image, and '{image.name}' has no annotation file: only their spelling differs"
                )
                yield Issue("label-name-differs", str(file), observed, f"the name '{label.name}', or no such file")


def _common_folder(folders: list[Path]) -> Path:
    """Return the deepest folder that holds all of ``folders``."""
    if not folders:
        return Path()
    first, *others = folders
    for folder in (first, *first.parents):
        if all(other.is_relative_to(folder) for other in others):
            return folder
    return Path(first.anchor)
