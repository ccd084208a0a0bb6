"""Input files of a prediction, and the names and image ids of their results."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from drfpn.data.image_io import IMAGE_SUFFIXES
from drfpn.utils.errors import UserError, did_you_mean

VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv")


def is_video(file: Path) -> bool:
    """Return whether a file is a video, judged by its extension."""
    return file.suffix.lower() in VIDEO_SUFFIXES


def find_inputs(inputs: Sequence[str]) -> list[Path]:
    """List the image and video files of paths and patterns, without duplicates.

    Args:
        inputs: files, folders (of which all images and videos directly inside are taken) and glob patterns.

    Raises:
        UserError: an input does not exist or holds neither images nor videos.
    """
    files: list[Path] = []
    for text in inputs:
        path = Path(text).expanduser()  # the shell does not expand ~ inside of quotes
        if path.is_dir():
            matches = _supported_files(path.iterdir())
        elif path.is_file():
            matches = [path]
        elif any(character in text for character in "*?["):
            root = Path(path.anchor) if path.is_absolute() else Path()
            matches = _supported_files(root.glob(str(path.relative_to(path.anchor))))
        else:
            siblings = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
            raise UserError(f"There is no file or folder {text}.{did_you_mean(path.name, siblings)}")
        if not matches:
            suffixes = ", ".join(sorted((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)))
            raise UserError(f"{text} holds no image and no video ({suffixes}).")
        files += matches
    return list(dict.fromkeys(files))


def _supported_files(files: Iterable[Path]) -> list[Path]:
    return sorted(file for file in files if file.suffix.lower() in IMAGE_SUFFIXES or is_video(file))


def output_files(files: Sequence[Path], out: Path) -> list[Path]:
    """Return the output file of each input: ``out/NAME.jpg`` for images, ``out/NAME.mp4`` for videos.

    Inputs of the same name get numbers: ``NAME.jpg``, ``NAME-2.jpg``, ...

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
        output, number = out / f"{file.stem}{suffix}", 2
        while output in outputs:
            output, number = out / f"{file.stem}-{number}{suffix}", number + 1
        if output.resolve() in sources:
            raise UserError(f"{output} is one of the inputs and would be overwritten; give another `out`.")
        outputs[output] = None
    return list(outputs)


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
