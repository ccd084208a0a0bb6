"""Which files to look at, and what their results are called."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from drfpn.data.image_io import IMAGE_SUFFIXES
from drfpn.utils.errors import UserError, did_you_mean

VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv")


def is_video(file: Path) -> bool:
    """Tell videos from images by the end of the name."""
    return file.suffix.lower() in VIDEO_SUFFIXES


def find_inputs(inputs: Sequence[str]) -> list[Path]:
    """Return the images and videos that ``inputs`` name: files, folders (all inside) and glob patterns.

    Raises:
        UserError: an input that does not exist or holds neither images nor videos.
    """
    files: list[Path] = []
    for text in inputs:
        path = Path(text).expanduser()  # the shell leaves ~ inside of quotes alone
        if path.is_dir():
            found = _known(path.iterdir())
        elif path.is_file():
            found = [path]
        elif any(sign in text for sign in "*?["):
            root = Path(path.anchor) if path.is_absolute() else Path()
            found = _known(root.glob(str(path.relative_to(path.anchor))))
        else:
            siblings = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
            raise UserError(f"There is no file or folder {text}.{did_you_mean(path.name, siblings)}")
        if not found:
            known = ", ".join(sorted((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)))
            raise UserError(f"{text} holds no image and no video ({known}).")
        files += found
    return list(dict.fromkeys(files))


def _known(files: Iterable[Path]) -> list[Path]:
    return sorted(file for file in files if file.suffix.lower() in IMAGE_SUFFIXES or is_video(file))


def output_files(files: Sequence[Path], out: Path) -> list[Path]:
    """Name the picture (.jpg) or video (.mp4) of each file in ``out``; a name that is taken gets a number.

    Raises:
        UserError: one of them would overwrite a file that is to be read.
    """
    sources = {file.resolve() for file in files}
    results: dict[Path, None] = {}  # in order
    for file in files:
        suffix = ".mp4" if is_video(file) else ".jpg"
        result, number = out / f"{file.stem}{suffix}", 2
        while result in results:
            result, number = out / f"{file.stem}-{number}{suffix}", number + 1
        if result.resolve() in sources:
            raise UserError(f"{result} is one of the inputs and would be overwritten; give another --out.")
        results[result] = None
    return list(results)


def coco_ids(files: Sequence[Path]) -> list[int] | None:
    """Return COCO's ids where all files are images named by them (000000000139.jpg), else ``None``."""
    stems = [file.stem for file in files]
    if any(is_video(file) for file in files) or not all(stem.isdecimal() for stem in stems):
        return None
    ids = [int(stem) for stem in stems]
    return ids if len(set(ids)) == len(ids) else None
