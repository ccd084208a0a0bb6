"""Names of splits: those that tools write for train, val and test."""

from collections import Counter
from collections.abc import Iterable

SYNONYMS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""Names of each split, in lower case."""

OTHERS = "others"
"""Split of the images that a file of annotations with splits puts into none of them."""

_CANONICAL = {synonym: split for split, synonyms in SYNONYMS.items() for synonym in synonyms}


def canonical_split(name: str) -> str:
    """Return ``train``, ``val`` or ``test`` for one of their synonyms in any case, other names unchanged.

    Args:
        name: name of a split, a folder or a file.
    """
    return _CANONICAL.get(name.lower(), name)


def is_split_name(name: str) -> bool:
    """Return whether a name is one of train, val or test.

    Args:
        name: name of a folder or a file.
    """
    return name.lower() in _CANONICAL


def name_splits(on_disk: Iterable[str]) -> dict[str, str]:
    """Return the names on disk by the name of their split.

    Of several names for one split, such as ``val`` and ``valid``, each keeps its own.

    Args:
        on_disk: names of folders or files.
    """
    on_disk = list(on_disk)
    counts = Counter(map(canonical_split, on_disk))
    return {canonical_split(name) if counts[canonical_split(name)] == 1 else name: name for name in on_disk}
