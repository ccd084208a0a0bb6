"""Reading the lists of a large JSON file record by record, so that only what is made of them fills the memory."""

import json
import math
import re
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from drfpn.data.validation.problems import Progress

Consumer = Callable[[int, Any], None]
"""Receives the place in its list, from 0, and the value of each record."""

_CHUNK = 1 << 20
"""Bytes read at once."""
_SPACE = re.compile(r"[ \t\n\r]*")
_NUMBER_TAIL = 32
"""Characters that must follow a number for it to be whole: 1 may be the start of 1e5."""


def read_lists(file: Path, consumers: Mapping[str, Consumer], progress: Progress | None = None) -> dict[str, str]:
    """Hand on the records of some lists of a JSON object, in the order of the file, and skip all else.

    Args:
        file: in UTF-8, UTF-16 or UTF-32.
        consumers: by the key of their list.
        progress: is called with the MiB read so far, and of all.

    Returns:
        The kind of JSON value, ``"list"``, ``"object"``, ``"string"``, ... under each key.

    Raises:
        ValueError: it is not JSON, is no object or has one of the lists twice.
        RecursionError: values are nested too deep.
    """
    with file.open("rb") as stream:
        text = _Text(stream, math.ceil(file.stat().st_size / _CHUNK), progress)
        if text.peek() != "{":
            kind = json_type(text.value())
            text.end()
            raise NotAnObject(kind)
        text.expect("{")
        kinds: dict[str, str] = {}
        for _ in text.items("}"):
            key = text.value()
            if not isinstance(key, str):
                raise ValueError(f"a key is {key!r:.20}")
            text.expect(":")
            if key in kinds and key in consumers:
                raise ValueError(f"its list '{key}' is there twice")
            if text.peek() != "[":
                kinds[key] = json_type(text.value())
                continue
            kinds[key] = "list"
            text.expect("[")
            consume = consumers.get(key, _skip)
            for index in text.items("]"):
                consume(index, text.value())
        text.end()
    return kinds


class NotAnObject(ValueError):
    """A JSON file holds a value of another ``kind``."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"it holds a JSON {kind}")
        self.kind = kind


def json_type(value: Any) -> str:
    """Return what JSON calls a value."""
    names = {list: "list", str: "string", bool: "boolean", type(None): "null", dict: "object"}
    return names.get(type(value), "number")


def _skip(index: int, value: Any) -> None:
    pass


class _Text:
    """The text of a JSON file, as far as it is needed."""

    def __init__(self, stream: BinaryIO, total: int, progress: Progress | None) -> None:
        start = stream.read(_CHUNK)
        encoding = json.detect_encoding(start)
        self._decoder = getincrementaldecoder(encoding)()
        self._stream = stream
        self._text = self._decoder.decode(start, final=not start)
        self._at = 0
        self._before = 0  # characters dropped
        self._whole = not start
        self._total = total
        self._progress = progress
        self._decode = json.JSONDecoder().raw_decode

    def _more(self, size: int = _CHUNK) -> bool:
        """Read on, and forget what was taken; returns whether there was more."""
        if self._whole:
            return False
        data = self._stream.read(size)
        self._whole = not data
        if self._progress is not None and self._total > 1:
            self._progress(min(self._stream.tell() // _CHUNK, self._total), self._total)
        self._before += self._at
        self._text = self._text[self._at :] + self._decoder.decode(data, final=self._whole)
        self._at = 0
        return True

    def peek(self) -> str:
        """Return the next character that is no space; nothing at the end."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]  # it matches nothing, too
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def expect(self, character: str) -> None:
        """Take a character."""
        found = self.peek()
        if found != character:
            raise self._wrong(f"'{character}' expected, found {repr(found) if found else 'the end'}")
        self._at += 1

    def value(self) -> Any:
        """Take a value."""
        self.peek()
        size = _CHUNK
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if not self._more(size):
                    raise self._wrong(error.msg, error.pos) from error
                size *= 2  # a value of any size takes few attempts
                continue
            if isinstance(value, int | float) and end + _NUMBER_TAIL > len(self._text) and self._more():
                continue
            self._at = end
            return value

    def items(self, close: str) -> Iterator[int]:
        """Count the items up to ``close``; each must be taken before the next is asked for."""
        index = 0
        if self.peek() == close:
            self._at += 1
            return
        while True:
            yield index
            index += 1
            found = self.peek()
            if found not in (",", close):
                raise self._wrong(f"',' or '{close}' expected, found {repr(found) if found else 'the end'}")
            self._at += 1
            if found == close:
                return

    def end(self) -> None:
        """Check that nothing follows."""
        if self.peek():
            raise self._wrong("the end expected")

    def _wrong(self, message: str, at: int | None = None) -> ValueError:
        place = self._before + (self._at if at is None else at)
        return ValueError(f"{message} at character {place + 1}")
