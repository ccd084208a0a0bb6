"""``Segmentations``: the polygons and RLEs of many objects, in two flat arrays."""

import json
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Segmentations:
    """Segmentations of N annotations (polygons or RLE) as JSON text in one buffer.

    Two arrays instead of N Python objects: forked worker processes use the same memory, while access to a Python
    object would copy its memory page.
    """

    text: NDArray[np.uint8]
    """(L,) the concatenated JSON texts."""
    starts: NDArray[np.int64]
    """(N + 1,) start of each text, and L; an empty text means that the annotation has no segmentation."""

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> Any:
        """Return the segmentation as in the file, or ``None``."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        text = self.text[self.starts[index] : self.starts[index + 1]].tobytes()
        return json.loads(text) if text else None

    def formats(self) -> NDArray[np.str_]:
        """Return the format of each segmentation, (N,): ``"polygons"``, ``"rle"``, or ``"none"``."""
        exists = self.starts[:-1] < self.starts[1:]
        first = np.zeros(len(self), dtype=np.uint8)
        first[exists] = self.text[self.starts[:-1][exists]]
        return np.where(exists, np.where(first == ord("{"), "rle", "polygons"), "none")

    def replace(self, changes: Mapping[int, Any]) -> "Segmentations":
        """Return a copy with other JSON values at some indices.

        Args:
            changes: new values by index.
        """
        pieces = [self.text[start:end] for start, end in pairwise(self.starts.tolist())]
        for index, value in changes.items():
            pieces[index] = np.frombuffer(_text(value), dtype=np.uint8)
        return Segmentations._concatenate(pieces)

    def select(self, indices: NDArray[np.int64]) -> "Segmentations":
        """Return the segmentations at ``indices``, in that order."""
        starts, ends = self.starts[:-1][indices].tolist(), self.starts[1:][indices].tolist()
        return Segmentations._concatenate([self.text[start:end] for start, end in zip(starts, ends, strict=True)])

    @classmethod
    def _concatenate(cls, pieces: Sequence[NDArray[np.uint8]]) -> "Segmentations":
        starts = np.cumsum([0, *map(len, pieces)], dtype=np.int64)
        return cls(np.concatenate([np.zeros(0, dtype=np.uint8), *pieces]), starts)


class SegmentationsBuilder:
    """Collects segmentations one by one into ``Segmentations``."""

    def __init__(self) -> None:
        self._text = bytearray()
        self._ends = array("q")

    def add(self, value: Any) -> None:
        """Append a JSON value, or ``None`` for an annotation without one."""
        self._text += _text(value)
        self._ends.append(len(self._text))

    def any(self) -> bool:
        """Return whether any annotation has a segmentation."""
        return bool(self._text)

    def build(self) -> Segmentations:
        """Return the segmentations added so far."""
        starts = np.concatenate([np.zeros(1, dtype=np.int64), np.array(self._ends, dtype=np.int64)])
        return Segmentations(np.frombuffer(bytes(self._text), dtype=np.uint8), starts)


def _text(value: Any) -> bytes:
    return b"" if value is None else json.dumps(value).encode()
