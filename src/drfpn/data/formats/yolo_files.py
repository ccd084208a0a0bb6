"""Images of a split of a YOLO data set, and the label file of each."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path

from drfpn.data.formats.files import FileFinder, FileIndex, fold, letters, list_files, read_lines
from drfpn.data.formats.split_names import is_split_name
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


@dataclass(frozen=True)
class _Place:
    """Where label files may be: below ``labels``, with the paths that the images have below ``images``."""

    images: Path
    labels: Path

    def label(self, image: Path) -> Path:
        return (self.labels / image.relative_to(self.images)).with_suffix(".txt")


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

    The paths are, for each folder of images, by the first rule with which any of the files exists. Of
    ``a/images/b/c.jpg`` that is ``a/labels/b/c.txt`` (the last folder called ``images`` or ``JPEGImages`` is
    replaced). Images that are in no such folder have theirs in ``labels/`` of the data set, with the same relative
    path, or in their own folder. Where there is no such file, the only one that differs in letter case or Unicode form
    is taken.

    Args:
        config: configuration of the data set.
        images: paths of the images.
    """
    finder = FileFinder()
    by_folder: dict[Path, list[Path]] = defaultdict(list)
    for image in dict.fromkeys(images):
        by_folder[image.parent].append(image)
    places = {folder: _places(folder, config) for folder in by_folder}
    on_disk = {
        folder: [[finder.find(place.label(image)) for image in members] for place in places[folder]]
        for folder, members in by_folder.items()
    }
    are_beside = not any(any(files) for folder in by_folder for files in on_disk[folder][:-1])
    labels: dict[Path, Path] = {}
    existing: dict[Path, Path | None] = {}
    for folder, members in by_folder.items():
        chosen = next((number for number, files in enumerate(on_disk[folder]) if any(files)), 0)
        is_last = chosen == len(places[folder]) - 1
        if is_last and not (are_beside or any(map(has_label_line, filter(None, on_disk[folder][chosen])))):
            chosen = 0  # text beside the images that is something else
        labels |= {image: places[folder][chosen].label(image) for image in members}
        existing |= zip(members, on_disk[folder][chosen], strict=True)
    issues = [*_shared_labels(existing), *_unmatched_labels(labels, existing, finder)]
    if not issues:
        issues = list(_misplaced_labels(labels, existing, places, finder))
    return [existing[image] or labels[image] for image in images], issues


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


def has_label_line(file: Path) -> bool:
    """Return whether a file begins with a class id and four numbers or more."""
    try:
        with file.open(encoding="utf-8-sig", errors="replace") as content:
            words = next(filter(None, (line.split() for line in islice(content, 5))), [])
        numbers = [float(word) for word in words]
    except (OSError, ValueError):
        return False
    return len(numbers) >= 5 and numbers[0].is_integer()


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
    # Any other folders before those of the data set may be left out, but not one of a split.
    named = next((number for number, part in enumerate(parts) if is_split_name(part)), len(parts))
    starts += [start for start in range(1, min(named + 1, len(parts) - 1)) if start not in starts]
    candidates += [folder.joinpath(*parts[start:]) for start in starts for folder in (list_file.parent, root)]
    for candidate in candidates:
        if candidate.exists():
            return candidate
    return next((path for candidate in candidates if (path := finder.find(candidate)) is not None), beside)


def _places(folder: Path, config: YoloConfig) -> list[_Place]:
    """Return where the label files of the images in a folder may be, in the order of preference."""
    places = [_Place(*pair) for pair in config.label_folders.items() if folder.is_relative_to(pair[0])]
    label = label_in_labels_folder(folder / "image")
    if label is not None:
        depth = max(position for position, part in enumerate(folder.parts) if part.lower() in _IMAGE_FOLDERS)
        places.append(_Place(Path(*folder.parts[: depth + 1]), Path(*label.parts[: depth + 1])))
    if folder.is_relative_to(config.root):
        places.append(_Place(config.root, config.root / LABEL_FOLDER))
    return [*places, _Place(folder, folder)]


def _shared_labels(existing: Mapping[Path, Path | None]) -> Iterator[Issue]:
    """Yield an issue for each label file that several images have."""
    owners: dict[Path, Path] = {}
    for image, label in existing.items():
        if label is not None and (owner := owners.setdefault(label, image)) != image:
            names = f"'{owner.name}' and '{image.name}'"
            yield Issue("image-ambiguous", str(label), f"it belongs to both {names}", "a label file for one image")


def _unmatched_labels(
    labels: Mapping[Path, Path], existing: Mapping[Path, Path | None], finder: FileFinder
) -> Iterator[Issue]:
    """Yield an issue for each label file without an image whose name resembles that of an image without labels."""
    used = set(existing.values())
    missing: dict[Path, list[tuple[Path, Path]]] = defaultdict(list)
    for image, path in existing.items():
        if path is None:
            missing[labels[image].parent].append((image, labels[image]))
    for folder, pairs in missing.items():
        unused: dict[str, list[Path]] = defaultdict(list)
        on_disk = finder.find(folder)
        for file in on_disk.iterdir() if on_disk is not None and on_disk.is_dir() else ():
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


def _misplaced_labels(
    labels: Mapping[Path, Path],
    existing: Mapping[Path, Path | None],
    places: Mapping[Path, list[_Place]],
    finder: FileFinder,
) -> Iterator[Issue]:
    """Yield an issue for each label file in another folder, of an image that would count as without objects."""
    used = set(existing.values())

    @cache
    def unused_labels(folder: Path) -> dict[str, list[Path]]:
        by_stem: dict[str, list[Path]] = defaultdict(list)
        for file in list_files(folder, is_label_file):
            if file not in used:
                by_stem[fold(file.stem)].append(file)
        return by_stem

    @cache
    def images_below(folder: Path) -> FileIndex:
        return FileIndex(folder, list_files(folder, is_image_file))

    def is_of_another_image(file: Path, own_places: list[_Place]) -> bool:
        pairs = [(place.images, place.labels) for place in own_places if file.is_relative_to(place.labels)]
        keys = [(images, file.relative_to(folder).with_suffix("").as_posix()) for images, folder in pairs]
        return any(images_below(images).match(key) is not None for images, key in keys)

    for image, path in existing.items():
        if path is not None:
            continue
        own_places = places[image.parent]
        elsewhere = {file for place in own_places if (file := finder.find(place.label(image))) is not None}
        for place in own_places[:-1]:
            same_name = unused_labels(place.labels).get(fold(image.stem), [])
            elsewhere |= {file for file in same_name if not is_of_another_image(file, own_places)}
        for file in sorted(elsewhere - used):
            if has_label_line(file):
                observed = (
                    f"it belongs to no image, and '{image.name}' has no annotation file: only their folders differ"
                )
                yield Issue("label-name-differs", str(file), observed, f"'{labels[image]}', or no such file")


def _common_folder(folders: list[Path]) -> Path:
    """Return the deepest folder that holds all of ``folders``."""
    if not folders:
        return Path()
    first, *others = folders
    for folder in (first, *first.parents):
        if all(other.is_relative_to(folder) for other in others):
            return folder
    return Path(first.anchor)
