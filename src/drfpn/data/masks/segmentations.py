"""COCO segmentations of any form, in two flat arrays."""

import json
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Segmentations:
    """The segmentations of N annotations (polygons or RLE) as JSON text in one buffer.

    Two arrays instead of N Python objects: worker processes that were forked share them, while reading an
    object would copy its memory page.
    """

    text: NDArray[np.uint8]
    """(L,) the JSON texts one after another."""
    starts: NDArray[np.int64]
    """(N + 1,) where each text begins; an empty text means that the annotation has none."""

    @classmethod
    def pack(cls, segmentations: Iterable[Any]) -> "Segmentations":
        """Store JSON values; ``None`` for an annotation without one."""
        packer = Packer()
        for value in segmentations:
            packer.add(value)
        return packer.pack()

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> Any:
        """Return the segmentation as it was in the file, or ``None``."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        text = self.text[self.starts[index] : self.starts[index + 1]].tobytes()
        return json.loads(text) if text else None

    def forms(self) -> NDArray[np.str_]:
        """Return ``"polygons"``, ``"rle"`` or, where there is none, ``"none"`` for each annotation, (N,)."""
        there = self.starts[:-1] < self.starts[1:]
        first = np.zeros(len(self), dtype=np.uint8)
        first[there] = self.text[self.starts[:-1][there]]
        return np.where(there, np.where(first == ord("{"), "rle", "polygons"), "none")

    def replace(self, changes: Mapping[int, Any]) -> "Segmentations":
        """Return all of them, with JSON values instead of those at the indices in ``changes``."""
        pieces = [self.text[start:end] for start, end in pairwise(self.starts.tolist())]
        for index, value in changes.items():
            pieces[index] = np.frombuffer(_text(value), dtype=np.uint8)
        return Segmentations._join(pieces)

    def select(self, indices: NDArray[np.int64]) -> "Segmentations":
        """Return those at ``indices``, in that order."""
        begins, ends = self.starts[:-1][indices].tolist(), self.starts[1:][indices].tolist()
        return Segmentations._join([self.text[begin:end] for begin, end in zip(begins, ends, strict=True)])

    @classmethod
    def _join(cls, pieces: Sequence[NDArray[np.uint8]]) -> "Segmentations":
        starts = np.cumsum([0, *map(len, pieces)], dtype=np.int64)
        return cls(np.concatenate([np.zeros(0, dtype=np.uint8), *pieces]), starts)


class Packer:
    """Collects segmentations one by one."""

    def __init__(self) -> None:
        self._text = bytearray()
        self._ends = array("q")

    def add(self, value: Any) -> None:
        """Append a JSON value, or ``None`` for an annotation without one."""
        self._text += _text(value)
        self._ends.append(len(self._text))

    def any(self) -> bool:
        """Return whether there is a segmentation at all."""
        return bool(self._text)

    def pack(self) -> Segmentations:
        """Return all of them."""
        starts = np.concatenate([np.zeros(1, dtype=np.int64), np.array(self._ends, dtype=np.int64)])
        return Segmentations(np.frombuffer(bytes(self._text), dtype=np.uint8), starts)


def _text(value: Any) -> bytes:
    return b"" if value is None else json.dumps(value).encode()
