"""Shards: equal parts of a list of work, each for a process that knows nothing of the others but their number."""

import re
from collections.abc import Sequence
from typing import NamedTuple, Self, TypeVar

from drfpn.utils.errors import UsageError

T = TypeVar("T")


class Shard(NamedTuple):
    """One of several parts of a list of work."""

    number: int
    """Number of this shard, 1 to ``total``."""
    total: int
    """Number of shards."""

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the shard that is written as ``K/N``.

        Args:
            text: such as ``"2/8"``.

        Raises:
            UsageError: another format, or K is not between 1 and N.
        """
        match = re.fullmatch(r"([0-9]+)/([0-9]+)", text.strip())
        if match is None:
            raise UsageError(f"`shard` must be K/N, such as 2/8 for the second of 8 shards, not '{text}'.")
        number, total = int(match[1]), int(match[2])
        if not 1 <= number <= total:
            first = "; shards are numbered from 1" if number == 0 < total else ""
            raise UsageError(f"`shard` must be K/N with K from 1 to N, not '{text}'{first}.")
        return cls(number, total)

    def slice_of(self, items: Sequence[T]) -> slice:
        """Return the contiguous part of a list that belongs to this shard; the parts differ by one item at most.

        Args:
            items: the whole list, the same for all shards.
        """
        return slice(len(items) * (self.number - 1) // self.total, len(items) * self.number // self.total)

    def every_nth(self, items: Sequence[T]) -> list[T]:
        """Return every N-th item of a list, from the K-th.

        Args:
            items: the whole list, the same for all shards.
        """
        return list(items[self.number - 1 :: self.total])
