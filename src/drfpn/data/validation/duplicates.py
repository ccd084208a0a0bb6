"""Duplicate and near-duplicate images within and between splits, by pixel hash and by perceptual hash (dHash)."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from drfpn.data.validation.issues import Issue

_HEIGHT, _WIDTH = 16, 17
"""Size of a thumbnail; it has 256 differences between horizontal neighbors."""
_MIN_STD = 5.0
"""Standard deviation, of 255, below which a thumbnail has too little contrast to be compared."""
_MAX_MEAN_DIFFERENCE, _MAX_DIFFERENCE = 2.0, 16
"""Differences between the thumbnails of near-duplicates, of 255: those that JPEG compression causes."""
_MAX_BUCKET_SIZE = 64
"""Largest number of images with the same part of a hash that are compared: a more common part is not specific."""


class Fingerprint(NamedTuple):
    """Hash and thumbnail by which an image is recognized."""

    pixel_hash: bytes
    """Hash of size and pixels."""
    thumbnail: NDArray[np.uint8]
    """(16, 17) grayscale."""


class ImageRef(NamedTuple):
    """An image file of a split."""

    split: str
    path: str


def compute_fingerprint(image: NDArray[np.uint8]) -> Fingerprint:
    """Return the fingerprint of a decoded image (3, H, W)."""
    digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image).data)
    green = Image.fromarray(image[1])  # the channel closest to luminance
    return Fingerprint(digest.digest(), np.asarray(green.resize((_WIDTH, _HEIGHT), Image.Resampling.BOX)))


def duplicate_issues(images: Sequence[ImageRef], fingerprints: Sequence[Fingerprint | None]) -> Iterator[Issue]:
    """Yield an issue for each image with the same pixels or path as an earlier one, then for each near-duplicate.

    Args:
        images: of all splits, one split after the other.
        fingerprints: of the images; ``None`` for one that cannot be decoded, which is compared by its path alone.
    """
    groups: dict[bytes, list[int]] = {}
    for index, (image, fingerprint) in enumerate(zip(images, fingerprints, strict=True)):
        groups.setdefault(image.path.encode() if fingerprint is None else fingerprint.pixel_hash, []).append(index)
    for group in groups.values():
        earlier: dict[str, ImageRef] = {}
        for image in map(images.__getitem__, group):
            if image.split in earlier:
                observed = f"it is in {image.split} twice{_other_path(earlier[image.split], image)}"
                yield Issue("duplicate-image", image.path, observed, "each image once")
                continue
            for split, other in earlier.items():
                observed = f"it is in {split} and {image.split}{_other_path(other, image)}"
                yield Issue("image-in-two-splits", image.path, observed, "one split")
            earlier[image.split] = image
    indices = [group[0] for group in groups.values() if fingerprints[group[0]] is not None]
    thumbnails = [fingerprint.thumbnail for i in indices if (fingerprint := fingerprints[i]) is not None]
    for a, b in find_similar_pairs(np.array(thumbnails, dtype=np.uint8).reshape(-1, _HEIGHT, _WIDTH)):
        first, second = images[indices[a]], images[indices[b]]
        where = f"both in {first.split}" if first.split == second.split else f"in {first.split} and {second.split}"
        yield Issue("similar-image", second.path, f"it looks like {first.path} ({where})", "each image once")


def group_similar_images(fingerprints: Sequence[Fingerprint | None]) -> list[list[int]]:
    """Return the indices of images in groups that look alike, by the same pixels or by thumbnails, also indirectly.

    Args:
        fingerprints: of the images; ``None`` for one that is not compared, which is a group of its own.
    """
    parents = list(range(len(fingerprints)))

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = index = parents[parents[index]]
        return index

    first: dict[bytes, int] = {}
    compared: list[int] = []
    thumbnails: list[NDArray[np.uint8]] = []
    for index, fingerprint in enumerate(fingerprints):
        if fingerprint is None:
            continue
        parents[index] = first.setdefault(fingerprint.pixel_hash, index)
        if parents[index] == index:
            compared.append(index)
            thumbnails.append(fingerprint.thumbnail)
    for a, b in find_similar_pairs(np.array(thumbnails, dtype=np.uint8).reshape(-1, _HEIGHT, _WIDTH)):
        parents[root(compared[b])] = root(compared[a])
    groups: dict[int, list[int]] = {}
    for index in range(len(fingerprints)):
        groups.setdefault(root(index), []).append(index)
    return list(groups.values())


def _other_path(first: ImageRef, second: ImageRef) -> str:
    return "" if first.path == second.path else f", also as {first.path}"


def find_similar_pairs(thumbnails: NDArray[np.uint8]) -> list[tuple[int, int]]:
    """Return the pairs (a, b), a < b, of similar thumbnails (M, 16, 17).

    Only thumbnails with a common 32-bit part of their dHash (one bit for each pair of neighbors) are compared, which
    avoids the quadratic number of comparisons.
    """
    textured = np.flatnonzero(thumbnails.std(axis=(1, 2), dtype=np.float32) >= _MIN_STD)
    levels = thumbnails[textured].astype(np.int16)
    brighter = (levels[:, :, 1:] > levels[:, :, :-1]).reshape(len(levels), _HEIGHT * (_WIDTH - 1))
    hash_parts = np.packbits(brighter, axis=1).view(np.uint32)  # (M, 8), two rows of pixels each
    candidates = [_equal_pairs(part) for part in hash_parts.T]
    a, b = np.unique(np.concatenate(candidates), axis=0).T
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(a), 100_000):
        chunk = slice(start, start + 100_000)
        difference = np.abs(levels[a[chunk]] - levels[b[chunk]])
        similar = difference.mean(axis=(1, 2)) <= _MAX_MEAN_DIFFERENCE
        similar &= difference.max(axis=(1, 2)) <= _MAX_DIFFERENCE
        pairs += zip(textured[a[chunk]][similar].tolist(), textured[b[chunk]][similar].tolist(), strict=True)
    return pairs


def _equal_pairs(values: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Return the pairs (P, 2) of indices with equal values, except values that occur in too many images."""
    order = np.argsort(values, kind="stable")
    run = np.concatenate([[0], np.cumsum(np.diff(values[order]) != 0)]) if len(values) else order
    small = np.bincount(run)[run] <= _MAX_BUCKET_SIZE
    pairs = []
    for step in range(1, _MAX_BUCKET_SIZE):
        equal = np.flatnonzero((run[step:] == run[:-step]) & small[step:])
        if not len(equal):
            break
        pairs.append(np.stack([order[equal], order[equal + step]], axis=1))
    return np.concatenate(pairs) if pairs else np.zeros((0, 2), dtype=np.int64)
