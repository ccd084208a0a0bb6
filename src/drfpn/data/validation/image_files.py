"""Checks of the image files of a data set: missing, damaged, wrong size, EXIF orientation."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from drfpn.data.annotations import Annotations
from drfpn.data.image_io import load_with_remarks, read_header
from drfpn.data.validation.duplicates import Fingerprint, compute_fingerprint
from drfpn.data.validation.issues import Issue
from drfpn.utils.errors import UserError


@dataclass(frozen=True)
class ImageCheck:
    """Result of decoding one image."""

    size: tuple[int, int]
    """(height, width) as decoded; (0, 0) if decoding failed."""
    issues: list[Issue] = field(default_factory=list)
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
    """Decode image ``index`` and return its size and its issues."""
    path = annotations.path(index)
    try:
        _, orientation = read_header(path)
        image, remarks = load_with_remarks(path)
    except UserError as error:
        return ImageCheck((0, 0), [image_file_issue(path, error)])
    size = (int(image.shape[1]), int(image.shape[2]))
    issues = [Issue(remark.kind, str(path), remark.text, "an image of one page of 8 bits") for remark in remarks]
    size_issue = image_size_issue(annotations, index, size)
    if size_issue is not None:
        issues.append(size_issue)
    elif orientation != 1:
        issues.append(
            Issue("exif-rotated", str(path), f"its EXIF orientation is {orientation}", "pixels stored upright")
        )
    return ImageCheck(size, issues, compute_fingerprint(image.numpy()))


def sample_remarks(annotations: Annotations, count: int = 3) -> list[str]:
    """Return a sentence for each kind of remark about the first images, see ``image_io.Remark``.

    Args:
        annotations: of a split.
        count: number of images that are decoded.
    """
    sentences: dict[str, str] = {}
    for index in range(min(count, len(annotations))):
        path = annotations.path(index)
        with suppress(UserError):  # loading it later reports it
            for remark in load_with_remarks(path)[1]:
                sentences.setdefault(remark.kind, f"{path}: {remark.text}.")
    return list(sentences.values())


def check_images(annotations: Annotations) -> Iterator[ImageCheck]:
    """Yield ``check_image`` of each image, in order; several are decoded at a time."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        try:
            yield from pool.map(lambda index: check_image(annotations, index), range(len(annotations)))
        finally:  # Ctrl-C should not wait for the others
            pool.shutdown(cancel_futures=True)
