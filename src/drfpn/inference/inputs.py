"""Input files of a prediction, and the names and image ids of their results."""

import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from drfpn.data.image_formats import CURES, is_hidden, is_image_file, is_undecodable_image
from drfpn.utils.errors import UserError, did_you_mean

logger = logging.getLogger(__name__)

# fmt: off
VIDEO_SUFFIXES = frozenset({
    ".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv",
    ".ts", ".vob", ".webm", ".wmv",
})
OTHER_PICTURE_SUFFIXES = frozenset({
    ".arw", ".cr2", ".cr3", ".dcm", ".dng", ".exr", ".hdr", ".jxr", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw",
    ".rw2", ".srw", ".svg",
})
# fmt: on
"""Suffixes of pictures that Pillow cannot decode: raw files of cameras and others."""

_NAMED = 5
_MAX_NAME = 255 - len(".part")  # bytes of a file name; files are written under a longer one first


def is_video(file: Path) -> bool:
    """Return whether a file is a video, judged by its extension."""
    return file.suffix.lower() in VIDEO_SUFFIXES


def find_inputs(inputs: Sequence[str]) -> list[Path]:
    """List the image and video files of paths and patterns, each file once.

    Hidden files of folders and patterns are left out. Files there that are pictures in a format that cannot be read
    are left out with a warning.

    Args:
        inputs: files, folders (of which all images and videos directly inside are taken) and glob patterns.

    Raises:
        UserError: an input is empty, does not exist or holds neither images nor videos.
    """
    files: list[Path] = []
    skipped: list[Path] = []
    for text in inputs:
        if not text.strip():
            raise UserError(f"An input is {text!r}, expected a file, folder or pattern.")
        path = Path(text).expanduser()  # the shell does not expand ~ inside of quotes
        if path.is_file():
            files.append(path)
            continue
        if path.is_dir():
            candidates = list(path.iterdir())
        elif any(character in text for character in "*?["):
            candidates = _match(path)
            if not candidates and not set(path.name) & set("*?"):  # a name with brackets, most likely
                raise UserError(f"There is no file or folder {text}, and as a pattern it matches none.{_similar(path)}")
        elif "://" in text:
            raise UserError(f"{text} is an address, expected a file or folder; save the images or the video first.")
        else:
            raise UserError(f"There is no file or folder {text}.{_similar(path)}")
        matches, unsupported = _sort_out(candidates)
        if not matches:
            reason = f", only {_formats(unsupported)}" if unsupported else ""
            raise UserError(f"{text} holds no image and no video{reason}.")
        files += matches
        skipped += unsupported
    if skipped:
        logger.warning("Left out: %s.", _formats(skipped))
    unique: dict[Path, Path] = {}  # links to one file under several names are several inputs
    for file in files:
        unique.setdefault(file.parent.resolve() / file.name, file)
    return list(unique.values())


def _similar(path: Path) -> str:
    """Return a question with the most similar name in the folder of a missing file, or an empty string."""
    siblings = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
    return did_you_mean(path.name, siblings)


def _match(pattern: Path) -> list[Path]:
    """List what a glob pattern matches; folders before it may have brackets in their names.

    Raises:
        UserError: pathlib does not support the pattern.
    """
    root = Path(pattern.anchor)
    parts = list(pattern.relative_to(pattern.anchor).parts)
    while len(parts) > 1 and (root / parts[0]).is_dir():
        root /= parts.pop(0)
    try:
        return list(root.glob(str(Path(*parts))))
    except ValueError as error:
        raise UserError(f"{pattern} is not a valid pattern: ** must stand alone between slashes.") from error


def _sort_out(files: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """Return the images and videos of some files, and the pictures that cannot be read; without hidden files."""
    visible = sorted(file for file in files if not is_hidden(file.name) and file.is_file())
    supported, pictures = [], []
    for file in visible:
        if is_image_file(file) or (is_video(file) and not _is_typescript(file)):
            supported.append(file)
        elif _is_picture(file):
            pictures.append(file)
    return supported, pictures


def _is_typescript(file: Path) -> bool:
    """Return whether a .ts file is source code: MPEG transport streams begin with their sync byte."""
    if file.suffix.lower() != ".ts":
        return False
    try:
        with file.open("rb") as stream:
            return stream.read(1) not in (b"", b"\x47")
    except OSError:
        return False  # its error is that of the reader


def _is_picture(file: Path) -> bool:
    return is_undecodable_image(file) or file.suffix.lower() in OTHER_PICTURE_SUFFIXES


def _formats(files: Sequence[Path]) -> str:
    suffixes = sorted({file.suffix.lower() for file in files})
    cures = sorted({CURES[suffix] for suffix in suffixes if suffix in CURES})
    hint = "; try " + " and ".join(f"'{cure}'" for cure in cures) if cures else ""
    names = name_some([str(file) for file in files])
    return f"{len(files)} in formats that cannot be read ({', '.join(suffixes)}{hint}): {names}"


def name_some(names: Sequence[str]) -> str:
    """Return the first names of a list, for a message.

    Args:
        names: names.
    """
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def output_files(files: Sequence[Path], out: Path) -> list[Path]:
    """Return the output file of each input: ``out/NAME.jpg`` for images, ``out/NAME.mp4`` for videos.

    Inputs of the same name get numbers: ``NAME.jpg``, ``NAME-2.jpg``, ... Names that are too long are cut.

    Args:
        files: images and videos.
        out: output folder.

    Raises:
        UserError: an output file is one of the inputs.
    """
    sources = {file.resolve() for file in files}
    outputs: dict[Path, None] = {}  # an ordered set
    for file in files:
        suffix = ".mp4" if is_video(file) else ".jpg"
        output, number = out / _short(file.stem, suffix), 2
        while output in outputs:
            output, number = out / _short(file.stem, f"-{number}{suffix}"), number + 1
        if output.resolve() in sources:
            raise UserError(f"{output} is one of the inputs and would be overwritten; give another `out`.")
        outputs[output] = None
    return list(outputs)


def _short(stem: str, end: str) -> str:
    """Return a file name whose stem is cut to what file systems accept."""
    room, name = _MAX_NAME - len(end), os.fsencode(stem)
    return (stem if len(name) <= room else name[:room].decode(errors="ignore")) + end


def coco_image_ids(files: Sequence[Path]) -> list[int] | None:
    """Return the image ids that COCO's file names contain: 139 for ``000000000139.jpg``.

    Returns:
        One id for each file; ``None`` where a file is a video, a name is not a number, or a number occurs twice.
    """
    stems = [file.stem for file in files]
    if any(is_video(file) for file in files) or not all(stem.isdecimal() for stem in stems):
        return None
    ids = [int(stem) for stem in stems]
    return ids if len(set(ids)) == len(ids) else None
