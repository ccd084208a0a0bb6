"""Checks of the image files of a data set: missing, damaged, wrong size, EXIF orientation."""

from dataclasses import dataclass
from pathlib import Path

from drfpn.data.annotations import Annotations
from drfpn.data.image_io import load_image, read_header
from drfpn.data.validation.duplicates import Fingerprint, compute_fingerprint
from drfpn.data.validation.issues import Issue
from drfpn.utils.errors import UserError


@dataclass(frozen=True)
class ImageCheck:
    """Result of decoding one image."""

    size: tuple[int, int]
    """(height, width) as decoded; (0, 0) if decoding failed."""
    issue: Issue | None
    fingerprint: Fingerprint | None = None
    """``None`` if decoding failed."""


def image_file_issue(path: Path, error: UserError) -> Issue:
    """Return the issue of an image file that is missing or cannot be decoded.

    Args:
        path: the file.
        error: raised by loading it.
    """
    if not path.is_file():
        return Issue("image-missing", str(path), "there is no such file", "an image")
    reason = str(error).removeprefix(f"{path} ").removesuffix(".")
    return Issue("image-undecodable", str(path), reason, "an image that can be decoded")


def image_size_issue(annotations: Annotations, index: int, size: tuple[int, int]) -> Issue | None:
    """Return an issue if the decoded size of an image differs from the annotated one.

    Args:
        annotations: of the split.
        index: index of the image.
        size: (height, width) of the decoded image.
    """
    height, width = annotations.sizes[index].tolist()
    if (height, width) in (size, (0, 0)):
        return None
    rotated = " (it may have been annotated without its EXIF orientation)" if size == (width, height) else ""
    return Issue(
        "image-size",
        str(annotations.path(index)),
        f"the image is {size[1]} x {size[0]} px{rotated}",
        f"{width} x {height} px as {annotations.annotation_file(index)} says",
    )


def check_image(annotations: Annotations, index: int) -> ImageCheck:
    """Decode image ``index`` and return its size and its most severe issue."""
    path = annotations.path(index)
    try:
        _, orientation = read_header(path)
        image = load_image(path)
    except UserError as error:
        return ImageCheck((0, 0), image_file_issue(path, error))
    size, fingerprint = (int(image.shape[1]), int(image.shape[2])), compute_fingerprint(image.numpy())
    size_issue = image_size_issue(annotations, index, size)
    if size_issue is None and orientation != 1:
        observed = f"its EXIF orientation is {orientation}"
        return ImageCheck(size, Issue("exif-rotated", str(path), observed, "pixels stored upright"), fingerprint)
    return ImageCheck(size, size_issue, fingerprint)
