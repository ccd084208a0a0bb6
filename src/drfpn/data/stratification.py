"""``stratify``: divides groups of images so that each part has its share of every class."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_ALL = -1
"""Stands for all images, beside the classes."""


@dataclass(frozen=True)
class ImageGroup:
    """Images that stay together."""

    images: tuple[int, ...]
    """Indices of the images."""
    key: str
    """Text that only this group has; with the seed it determines the order of groups of one size."""
    counts: Mapping[int, int]
    """Number of images with an object of a class, by class; an image without objects is of a class of its own."""


def stratify(groups: Sequence[ImageGroup], fractions: Mapping[str, float], seed: int = 0) -> dict[str, list[int]]:
    """Divide groups of images into parts of given sizes that have the same shares of the classes.

    This is iterative stratification (Sechidis et al., "On the stratification of multi-label data", 2011) of groups:
    while any remain, one that holds the class with the fewest remaining images goes to the part that lacks most images
    of this class; the largest groups go first. Then groups are moved as long as that brings the shares of classes and
    images closer to the fractions. No part is left empty if there are as many groups as parts. The result depends on
    the groups and the seed only.

    Args:
        groups: the groups.
        fractions: fraction of the images by part; they add up to 1.
        seed: seed of the order of groups of one size.

    Returns:
        Indices of the images by part, in ascending order.
    """
    order = sorted(groups, key=lambda group: (-len(group.images), _shuffle_key(group.key, seed)))
    part_of = _assign(order, list(fractions.values()))
    _improve(order, part_of, list(fractions.values()))
    _fill_empty(part_of, len(fractions))
    return {
        name: sorted(index for group, of in zip(order, part_of, strict=True) if of == part for index in group.images)
        for part, name in enumerate(fractions)
    }


def _assign(groups: Sequence[ImageGroup], fractions: Sequence[float]) -> list[int]:
    """Return the part of each group by iterative stratification."""
    remaining = _totals(groups)
    members: dict[int, list[int]] = {label: [] for label in remaining}
    for g, group in enumerate(groups):
        for label in group.counts:
            members[label].append(g)
    waiting = {label: iter(members[label]) for label in members}
    missing = {label: [fraction * count for fraction in fractions] for label, count in remaining.items()}
    missing_images = [fraction * sum(len(group.images) for group in groups) for fraction in fractions]
    part_of = [-1] * len(groups)
    for _ in groups:
        rarest = min((label for label, count in remaining.items() if count), key=lambda label: remaining[label])
        g = next(g for g in waiting[rarest] if part_of[g] < 0)
        lacks = [(round(missing[rarest][p], 6), round(missing_images[p], 6), -p) for p in range(len(fractions))]
        part = part_of[g] = -max(lacks)[2]
        for label, count in groups[g].counts.items():
            remaining[label] -= count
            missing[label][part] -= count
        missing_images[part] -= len(groups[g].images)
    return part_of


def _improve(groups: Sequence[ImageGroup], part_of: list[int], fractions: Sequence[float], passes: int = 4) -> None:
    """Move single groups while that reduces the squared deviations from the fractions, each by the size of its class.

    Images count as a class of their own that weighs as much as all others.
    """
    totals = _totals(groups) | {_ALL: sum(len(group.images) for group in groups)}
    weights = {label: 1 / total for label, total in totals.items()}
    weights[_ALL] *= len(totals)
    excess = {label: [-fraction * total for fraction in fractions] for label, total in totals.items()}
    items = [(*group.counts.items(), (_ALL, len(group.images))) for group in groups]
    for g, part in enumerate(part_of):
        for label, count in items[g]:
            excess[label][part] += count
    for _ in range(passes):
        moved = False
        for g, part in enumerate(part_of):
            gains = [
                sum(
                    weights[label] * count * (excess[label][part] - excess[label][to] - count)
                    for label, count in items[g]
                )
                if to != part
                else 0.0
                for to in range(len(fractions))
            ]
            best = max(range(len(fractions)), key=lambda to: (round(gains[to], 9), to == part))
            if best != part:
                moved, part_of[g] = True, best
                for label, count in items[g]:
                    excess[label][part] -= count
                    excess[label][best] += count
        if not moved:
            break


def _totals(groups: Sequence[ImageGroup]) -> dict[int, int]:
    """Return the number of images by class, in the order of the classes."""
    totals = Counter[int]()
    for group in groups:
        totals.update(group.counts)
    return dict(sorted(totals.items()))


def _fill_empty(part_of: list[int], parts: int) -> None:
    """Move the last group of the largest part to a part without any."""
    for part in range(parts):
        counts = Counter(part_of)
        largest, count = counts.most_common(1)[0]
        if not counts[part] and count > 1:
            part_of[len(part_of) - 1 - part_of[::-1].index(largest)] = part


def _shuffle_key(key: str, seed: int) -> bytes:
    """Return a hash, which orders groups at random and in the same way on every machine."""
    return hashlib.blake2b(f"{seed}:{key}".encode("utf-8", "surrogateescape"), digest_size=16).digest()
