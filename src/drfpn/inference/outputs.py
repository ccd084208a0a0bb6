"""Results as they come: COCO's JSON and a table, in constant memory."""

import csv
import io
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from drfpn.inference.detections import Detections
from drfpn.utils.io import replaced

COLUMNS = ("file", "frame", "image_id", "class", "score", "x1", "y1", "x2", "y2")
"""Of the table; frames count from 0 and are empty for images, boxes are in pixels."""


class JsonList:
    """A JSON array on disk that grows row by row."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._separator = b"[\n"

    def add(self, row: Any) -> None:
        """Append a row."""
        self._stream.write(self._separator + json.dumps(row).encode())
        self._separator = b",\n"

    def close(self) -> None:
        """End the array."""
        self._stream.write(b"[]\n" if self._separator == b"[\n" else b"\n]\n")


class ResultFiles:
    """``NAME.json``: all detections, as COCO has them. ``NAME.csv``: those that are drawn, as a table."""

    def __init__(self, rows: JsonList, table: BinaryIO, min_score: float) -> None:
        self._rows = rows
        self._table = table
        self._min_score = min_score
        self._write_line(COLUMNS)

    def add(self, found: Detections, image_id: int, file: Path, frame: int | None = None) -> None:
        """Write what was found in an image or frame."""
        for row in found.to_coco(image_id):
            self._rows.add(row)
        drawn = found.above(self._min_score)
        for name, score, box in zip(drawn.names(), drawn.scores.tolist(), drawn.boxes.tolist(), strict=True):
            place = (str(file), "" if frame is None else frame, image_id)
            self._write_line((*place, name, f"{score:.4f}", *(f"{value:.2f}" for value in box)))

    def _write_line(self, values: tuple[Any, ...]) -> None:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(values)
        self._table.write(line.getvalue().encode())


@contextmanager
def json_list(file: Path) -> Iterator[JsonList]:
    """Open a JSON array to write. ``file`` is there when it is whole; a stop keeps the rows written until then."""
    with _kept(file) as stream:
        rows = JsonList(stream)
        try:
            yield rows
        finally:
            rows.close()


@contextmanager
def result_files(folder: Path, name: str, min_score: float) -> Iterator[ResultFiles]:
    """Open ``NAME.json`` and ``NAME.csv`` in ``folder``; the table takes detections from ``min_score`` on."""
    with ExitStack() as stack:
        table = stack.enter_context(_kept(folder / f"{name}.csv"))
        yield ResultFiles(stack.enter_context(json_list(folder / f"{name}.json")), table, min_score)


@contextmanager
def _kept(file: Path) -> Iterator[BinaryIO]:
    """Open a file that takes its place also when a stop or a bad input ends the work: what is done is kept."""
    stop: BaseException | None = None
    with replaced(file) as stream:
        try:
            yield stream
        except BaseException as error:  # raised again below
            stop = error
    if stop is not None:
        raise stop


def save_picture(picture: Image.Image, file: Path) -> None:
    """Write a JPEG, atomically.

    Raises:
        UserError: it cannot be written.
    """
    with replaced(file) as stream:
        picture.save(stream, "JPEG", quality=92)
