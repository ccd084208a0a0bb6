"""Files in the folders of a data set that no split uses: images without annotations, and labels without an image."""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from PIL import Image

from drfpn.data.annotations import Annotations
from drfpn.data.formats.base_layout import Layout
from drfpn.data.image_formats import CURES, IMAGE_FORMATS, is_image_file, is_undecodable_image, walk_files
from drfpn.data.validation.issues import Issue

_IMAGE, _LABEL = "an image that a split uses", "an image of the same name"


@dataclass(frozen=True)
class _Inventory:
    """What is on disk in the folders of images, and what the splits use of it; all by ``_identity``."""

    files: dict[str, Path]
    """Images in the folders."""
    used: dict[str, Path]
    """Images of the splits, on disk or not."""
    used_labels: dict[str, str]
    """The image of each annotation file that the splits read, on disk or not."""


def unused_files(
    layout: Layout, parsed: Mapping[str, Annotations | None], parse: Callable[[str], Annotations | None]
) -> Iterator[Issue]:
    """Yield an issue for each image or annotation file on disk that no split uses, with the reason.

    Args:
        layout: the data set.
        parsed: the splits that were read; ``None`` for those that cannot be read.
        parse: reads another split; called only if there are files that those of ``parsed`` do not use.
    """
    readable = [split for split, annotations in parsed.items() if annotations is not None]
    identity = _Identity()
    unread = {folder for split in parsed if split not in readable for folder in _folders_of(layout, split)}
    folders = {folder for split in readable for folder in _folders_of(layout, split)} - unread
    files = {identity(path): path for folder in sorted(folders) for path in walk_files(folder) if _is_picture(path)}
    labels = {identity(path): path for split in readable for path in layout.label_files(split)} if not unread else {}
    inventory = _Inventory(files, {}, {})
    for split in readable:
        _add_used(inventory, parsed[split], identity)
    others = [split for split in layout.splits if split not in parsed]
    if files.keys() - inventory.used.keys() or labels.keys() - inventory.used_labels.keys():
        for split in others:
            _add_used(inventory, parse(split), identity)
    yield from _unused_images(inventory)
    yield from _unused_labels(inventory, labels)


def _folders_of(layout: Layout, split: str) -> tuple[Path, ...]:
    return layout.image_folders(split) if split in layout.splits else ()


class _Identity:
    """Returns a text that is the same for all paths of one file but links to it; each folder is resolved once."""

    def __init__(self) -> None:
        self._folders: dict[str, str] = {}

    def __call__(self, path: Path | str) -> str:
        folder, name = os.path.split(path)
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        return os.path.join(self._folders[folder], name)


def _is_picture(path: Path) -> bool:
    """Return whether a file is an image, also one that cannot be decoded here or has a name without a suffix."""
    if is_image_file(path) or is_undecodable_image(path):
        return True
    if path.suffix:
        return False
    try:
        with Image.open(path, formats=IMAGE_FORMATS):
            return True
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False


def _add_used(inventory: _Inventory, annotations: Annotations | None, identity: _Identity) -> None:
    if annotations is None:
        return
    root = str(annotations.root)
    for index, name in enumerate(annotations.file_names.tolist()):
        path = os.path.join(root, name)
        inventory.used[identity(path)] = Path(path)
        if annotations.annotation_files is not None:
            inventory.used_labels[identity(annotations.annotation_file(index))] = path


def _unused_images(inventory: _Inventory) -> Iterator[Issue]:
    missing = _by_spelling(
        path for key, path in inventory.used.items() if key not in inventory.files and not path.exists()
    )
    for key, path in inventory.files.items():
        if key in inventory.used:
            continue
        near = missing.get(_spelling(path.name), [])
        if path.is_symlink() and not path.exists():
            observed = f"it is a link to '{os.readlink(path)}', which does not exist"
        elif is_undecodable_image(path):
            suffix = path.suffix.lower()
            observed = f"'{suffix}' cannot be decoded here; '{CURES[suffix]}' installs what reads it"
        elif near:
            observed = f"no annotation names it; one names '{near[0].name}', which does not exist"
        elif not path.suffix:
            observed = "its name has no suffix of an image, and no annotation names it"
        else:
            observed = "no annotation or list names it"
        yield Issue("unused-image", str(path), observed, _IMAGE)


def _unused_labels(inventory: _Inventory, labels: Mapping[str, Path]) -> Iterator[Issue]:
    unused = {key: path for key, path in labels.items() if key not in inventory.used_labels}
    if not unused:
        return
    # Images that are used without an annotation file: one of nearly the same name was probably meant for them.
    bare = _by_spelling(
        Path(image) for key, image in inventory.used_labels.items() if key not in labels and not os.path.exists(key)
    )
    stems = {path.stem for path in inventory.files.values()}
    spellings = _by_spelling(inventory.files.values())
    for path in unused.values():
        near = bare.get(_spelling(path.name), [])
        if len(near) == 1:
            difference = "folders differ" if near[0].stem == path.stem else "spelling differs"
            observed = f"it belongs to no image, and '{near[0].name}' has no annotation file: only their {difference}"
            yield Issue("label-name-differs", str(path), observed, _LABEL)
            continue
        if path.stem in stems:
            observed = "its image is in no split"
        elif similar := spellings.get(_spelling(path.name)):
            observed = f"there is no image of its name, only '{similar[0].name}'"
        else:
            observed = "there is no image of its name"
        yield Issue("unused-label", str(path), observed, _LABEL)


def _by_spelling(paths: Iterable[Path]) -> dict[str, list[Path]]:
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        groups[_spelling(path.name)].append(path)
    return groups


def _spelling(name: str) -> str:
    """Return a name without suffix in which case, Unicode form, percent signs and separators of words do not count."""
    stem = os.path.splitext(unquote(name))[0]
    return re.sub(r"[\W_]+", "_", unicodedata.normalize("NFC", unicodedata.normalize("NFC", stem).casefold()))
