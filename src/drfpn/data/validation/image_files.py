"""The rules for the image files of a data set."""

from dataclasses import dataclass

from drfpn.data.annotations import Annotations
from drfpn.data.image_io import load_image, read_header
from drfpn.data.validation.duplicates import Fingerprint, take_fingerprint
from drfpn.data.validation.problems import Problem, image_problem
from drfpn.utils.errors import UserError


@dataclass(frozen=True)
class FileReport:
    """What decoding one image showed."""

    size: tuple[int, int]
    """(height, width) as decoded; 0, 0 where that failed."""
    problem: Problem | None
    fingerprint: Fingerprint | None = None
    """``None`` where decoding failed."""


def size_problem(annotations: Annotations, index: int, found: tuple[int, int]) -> Problem | None:
    """Return a problem if image ``index``, decoded to ``found`` (height, width), is annotated otherwise."""
    height, width = annotations.sizes[index].tolist()
    if (height, width) in (found, (0, 0)):
        return None
    turned = " (it may have been annotated without its EXIF orientation)" if found == (width, height) else ""
    return Problem(
        "image-size",
        str(annotations.path(index)),
        f"the image is {found[1]} x {found[0]} px{turned}",
        f"{width} x {height} px as {annotations.source_of(index)} says",
    )


def inspect_file(annotations: Annotations, index: int) -> FileReport:
    """Decode image ``index`` and return its size and the worst problem."""
    path = annotations.path(index)
    try:
        _, orientation = read_header(path)
        image = load_image(path)
    except UserError as error:
        return FileReport((0, 0), image_problem(path, error))
    size, fingerprint = (int(image.shape[1]), int(image.shape[2])), take_fingerprint(image.numpy())
    wrong_size = size_problem(annotations, index, size)
    if wrong_size is None and orientation != 1:
        found = f"its EXIF orientation is {orientation}"
        return FileReport(size, Problem("exif-rotated", str(path), found, "pixels stored upright"), fingerprint)
    return FileReport(size, wrong_size, fingerprint)
