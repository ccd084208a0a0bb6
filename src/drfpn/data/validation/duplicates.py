"""Finding images that are in a data set more than once, by what they show."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from drfpn.data.validation.problems import Problem

_HEIGHT, _WIDTH = 16, 17
"""Of a thumbnail, so that it has 256 differences of neighbours."""
_FLAT = 5.0
"""Standard deviation, of 255, below which a thumbnail shows too little to be compared."""
_MEAN, _LARGEST = 2.0, 16
"""Differences between the thumbnails of copies, in levels of 255: what saving as JPEG changes."""
_CROWD = 64
"""Images with one piece of a hash in common beyond which the piece says nothing."""


class Fingerprint(NamedTuple):
    """What is kept of an image to know it again."""

    pixels: bytes
    """Hash of size and pixels."""
    thumbnail: NDArray[np.uint8]
    """(16, 17) grey."""


class Picture(NamedTuple):
    """An image of a split."""

    split: str
    path: str


def take_fingerprint(image: NDArray[np.uint8]) -> Fingerprint:
    """Return the fingerprint of a decoded image (3, H, W)."""
    digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image).data)
    green = Image.fromarray(image[1])  # nearest of the three to brightness
    return Fingerprint(digest.digest(), np.asarray(green.resize((_WIDTH, _HEIGHT), Image.Resampling.BOX)))


def copy_problems(pictures: Sequence[Picture], prints: Sequence[Fingerprint | None]) -> Iterator[Problem]:
    """Yield the images that are there before: with the same pixels or by the same path, then those that look alike.

    Args:
        pictures: Of all splits, one after the other.
        prints: One for each; ``None`` for one that cannot be decoded, which is compared by its path alone.
    """
    of_pixels: dict[bytes, list[int]] = {}
    for index, (picture, fingerprint) in enumerate(zip(pictures, prints, strict=True)):
        of_pixels.setdefault(picture.path.encode() if fingerprint is None else fingerprint.pixels, []).append(index)
    for same in of_pixels.values():
        earlier: dict[str, Picture] = {}
        for picture in map(pictures.__getitem__, same):
            if picture.split in earlier:
                found = f"it is in {picture.split} twice{_called(earlier[picture.split], picture)}"
                yield Problem("duplicate-image", picture.path, found, "each image once")
                continue
            for split, other in earlier.items():
                found = f"it is in {split} and {picture.split}{_called(other, picture)}"
                yield Problem("image-in-two-splits", picture.path, found, "one split")
            earlier[picture.split] = picture
    known = [(index, print_) for same in of_pixels.values() if (print_ := prints[index := same[0]]) is not None]
    indices = [index for index, _ in known]
    thumbnails = np.array([fingerprint.thumbnail for _, fingerprint in known], dtype=np.uint8).reshape(
        -1, _HEIGHT, _WIDTH
    )
    for a, b in similar(thumbnails):
        first, second = pictures[indices[a]], pictures[indices[b]]
        where = f"both in {first.split}" if first.split == second.split else f"in {first.split} and {second.split}"
        yield Problem("similar-image", second.path, f"it looks like {first.path} ({where})", "each image once")


def _called(first: Picture, second: Picture) -> str:
    return "" if first.path == second.path else f", also as {first.path}"


def similar(thumbnails: NDArray[np.uint8]) -> list[tuple[int, int]]:
    """Return the pairs (a, b), a < b, of thumbnails (M, 16, 17) that show the same.

    Only those are compared that have a piece of their hash in common, one bit for each pair of neighbours (dHash), so
    that the time is not that of all pairs.
    """
    worth = np.flatnonzero(thumbnails.std(axis=(1, 2), dtype=np.float32) >= _FLAT)
    levels = thumbnails[worth].astype(np.int16)
    brighter = (levels[:, :, 1:] > levels[:, :, :-1]).reshape(len(levels), _HEIGHT * (_WIDTH - 1))
    pieces = np.packbits(brighter, axis=1).view(np.uint32)  # (M, 8), two rows each
    candidates = [_pairs(piece) for piece in pieces.T]
    a, b = np.unique(np.concatenate(candidates), axis=0).T
    found: list[tuple[int, int]] = []
    for start in range(0, len(a), 100_000):
        part = slice(start, start + 100_000)
        difference = np.abs(levels[a[part]] - levels[b[part]])
        alike = (difference.mean(axis=(1, 2)) <= _MEAN) & (difference.max(axis=(1, 2)) <= _LARGEST)
        found += zip(worth[a[part]][alike].tolist(), worth[b[part]][alike].tolist(), strict=True)
    return found


def _pairs(values: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Return the pairs (P, 2) of indices with equal values, but for values that more than ``_CROWD`` have."""
    order = np.argsort(values, kind="stable")
    run = np.concatenate([[0], np.cumsum(np.diff(values[order]) != 0)]) if len(values) else order
    few = np.bincount(run)[run] <= _CROWD
    pairs = []
    for step in range(1, _CROWD):
        together = np.flatnonzero((run[step:] == run[:-step]) & few[step:])
        if not len(together):
            break
        pairs.append(np.stack([order[together], order[together + step]], axis=1))
    return np.concatenate(pairs) if pairs else np.zeros((0, 2), dtype=np.int64)
