"""Streaming JSON reader: passes the records of lists in a large file to callbacks without loading the whole file."""

import json
import math
import re
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from drfpn.data.progress import ProgressCallback

Consumer = Callable[[int, Any], None]
"""Called with the index in its list, from 0, and the value of each record."""

_CHUNK = 1 << 20
"""Bytes of a read."""
_SPACE = re.compile(r"[ \t\n\r]*")
_NUMBER_TAIL = 32
"""Characters that must follow a number for it to be complete: 1 may be the start of 1e5."""


def read_lists(
    file: Path, consumers: Mapping[str, Consumer], progress: ProgressCallback | None = None
) -> dict[str, str]:
    """Pass the records of some lists of a JSON object to consumers, in the order of the file, and skip all else.

    Args:
        file: JSON in UTF-8, UTF-16 or UTF-32.
        consumers: consumers by the key of their list.
        progress: called with the MiB read so far and the total.

    Returns:
        The JSON type, ``"list"``, ``"object"``, ``"string"``, ... of the value of each key.

    Raises:
        NotAnObjectError: the file holds another JSON value than an object.
        ValueError: the file is not JSON or has one of the lists twice.
        RecursionError: values are nested too deep.
    """
    with file.open("rb") as stream:
        text = _Text(stream, math.ceil(file.stat().st_size / _CHUNK), progress)
        if text.peek() != "{":
            value_type = json_type(text.value())
            text.end()
            raise NotAnObjectError(value_type)
        text.expect("{")
        types: dict[str, str] = {}
        for _ in text.items("}"):
            key = text.value()
            if not isinstance(key, str):
                raise ValueError(f"a key is {key!r:.20}")
            text.expect(":")
            if key in types and key in consumers:
                raise ValueError(f"its list '{key}' is there twice")
            if text.peek() != "[":
                types[key] = json_type(text.value())
                continue
            types[key] = "list"
            text.expect("[")
            consume = consumers.get(key, _skip)
            for index in text.items("]"):
                consume(index, text.value())
        text.end()
    return types


class NotAnObjectError(ValueError):
    """A JSON file holds another value than an object.

    Args:
        value_type: JSON type of the value.
    """

    def __init__(self, value_type: str) -> None:
        super().__init__(f"it holds a JSON {value_type}")


def json_type(value: Any) -> str:
    """Return the JSON type of a value."""
    types = {list: "list", str: "string", bool: "boolean", type(None): "null", dict: "object"}
    return types.get(type(value), "number")


def _skip(index: int, value: Any) -> None:
    pass


class _Text:
    """Buffered text of a JSON file."""

    def __init__(self, stream: BinaryIO, total: int, progress: ProgressCallback | None) -> None:
        start = stream.read(_CHUNK)
        encoding = json.detect_encoding(start)
        self._decoder = getincrementaldecoder(encoding)()
        self._stream = stream
        self._text = self._decoder.decode(start, final=not start)
        self._position = 0
        self._discarded = 0  # characters before the buffer
        self._complete = not start
        self._total = total
        self._progress = progress
        self._decode = json.JSONDecoder().raw_decode

    def _more(self, size: int = _CHUNK) -> bool:
        """Read more text and discard what was consumed; return whether there was more."""
        if self._complete:
            return False
        data = self._stream.read(size)
        self._complete = not data
        if self._progress is not None and self._total > 1:
            self._progress(min(self._stream.tell() // _CHUNK, self._total), self._total)
        self._discarded += self._position
        self._text = self._text[self._position :] + self._decoder.decode(data, final=self._complete)
        self._position = 0
        return True

    def peek(self) -> str:
        """Return the next character that is not whitespace; an empty string at the end."""
        while True:
            self._position = _SPACE.match(self._text, self._position).end()  # type: ignore[union-attr]  # it also matches an empty string
            if self._position < len(self._text):
                return self._text[self._position]
            if not self._more():
                return ""

    def expect(self, character: str) -> None:
        """Consume a character."""
        actual = self.peek()
        if actual != character:
            raise self._error(f"'{character}' expected, got {repr(actual) if actual else 'the end'}")
        self._position += 1

    def value(self) -> Any:
        """Consume a value and return it."""
        self.peek()
        size = _CHUNK
        while True:
            try:
                value, end = self._decode(self._text, self._position)
            except json.JSONDecodeError as error:
                if not self._more(size):
                    raise self._error(error.msg, error.pos) from error
                size *= 2  # a value of any size takes few attempts
                continue
            if isinstance(value, int | float) and end + _NUMBER_TAIL > len(self._text) and self._more():
                continue
            self._position = end
            return value

    def items(self, close: str) -> Iterator[int]:
        """Yield the index of each item up to ``close``; an item must be consumed before the next index is requested."""
        index = 0
        if self.peek() == close:
            self._position += 1
            return
        while True:
            yield index
            index += 1
            actual = self.peek()
            if actual not in (",", close):
                raise self._error(f"',' or '{close}' expected, got {repr(actual) if actual else 'the end'}")
            self._position += 1
            if actual == close:
                return

    def end(self) -> None:
        """Raise if anything follows."""
        if self.peek():
            raise self._error("the end expected")

    def _error(self, message: str, position: int | None = None) -> ValueError:
        position = self._position if position is None else position
        return ValueError(f"{message} at character {self._discarded + position + 1}")
