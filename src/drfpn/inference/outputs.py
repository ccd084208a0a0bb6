"""Writers of ``results.json``, ``results.csv``, ``images.json`` and ``categories.json``, in constant memory."""

import csv
import io
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from drfpn.inference.detections import Detections
from drfpn.inference.predictor import Predictor
from drfpn.utils.io import open_atomically, write_json

CSV_COLUMNS = ("file", "frame", "image_id", "class", "score", "x1", "y1", "x2", "y2")
"""Columns of ``results.csv``. Frames are numbered from 0, and empty for images; boxes are in pixels."""


class JsonArrayWriter:
    """Writer of a JSON array, one element at a time.

    Args:
        stream: file to write to.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._separator = b"[\n"

    def add(self, element: Any) -> None:
        """Append an element.

        Args:
            element: value that ``json`` can serialize.
        """
        self._stream.write(self._separator + json.dumps(element).encode())
        self._separator = b",\n"

    def close(self) -> None:
        """End the array; the stream stays open."""
        self._stream.write(b"[]\n" if self._separator == b"[\n" else b"\n]\n")


class ResultWriter:
    """Writer of all detections in COCO's results format, and of those above a score threshold as CSV.

    Args:
        results: array for COCO's results.
        table: file for the CSV.
        score_threshold: detections with lower scores are left out of the CSV.
    """

    def __init__(self, results: JsonArrayWriter, table: BinaryIO, score_threshold: float) -> None:
        self._results = results
        self._table = table
        self._score_threshold = score_threshold
        self._write_row(CSV_COLUMNS)

    def add(self, detections: Detections, image_id: int, file: Path, frame: int | None = None) -> None:
        """Write the detections of an image or of a frame of a video.

        Args:
            detections: all detections of the image.
            image_id: id of the image.
            file: path of the image or video.
            frame: number of the frame, from 0; ``None`` for an image.
        """
        for result in detections.to_coco(image_id):
            self._results.add(result)
        source = (str(file), "" if frame is None else frame, image_id)
        drawn = detections.above(self._score_threshold)
        for name, score, box in zip(drawn.class_names(), drawn.scores.tolist(), drawn.boxes.tolist(), strict=True):
            self._write_row((*source, name, f"{score:.4f}", *(f"{value:.2f}" for value in box)))

    def _write_row(self, values: tuple[Any, ...]) -> None:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(values)
        self._table.write(line.getvalue().encode(errors="backslashreplace"))  # file names need not be Unicode


@contextmanager
def open_json_array(file: Path) -> Iterator[JsonArrayWriter]:
    """Open a JSON array for writing; ``file`` is replaced at the end, even after an exception."""
    with _open_preserving_partial(file) as stream:
        writer = JsonArrayWriter(stream)
        try:
            yield writer
        finally:
            writer.close()


def write_categories(folder: Path, name: str, predictor: Predictor) -> None:
    """Write ``folder/NAME.json``: the categories of the results in COCO's format, since ids differ between data sets.

    Args:
        folder: where to write.
        name: NAME.
        predictor: the detector.
    """
    categories = zip(predictor.category_ids, predictor.classes, strict=True)
    write_json(folder / f"{name}.json", [{"id": key, "name": label} for key, label in categories])


@contextmanager
def open_result_writer(folder: Path, name: str, score_threshold: float) -> Iterator[ResultWriter]:
    """Open ``folder/NAME.json`` and ``folder/NAME.csv`` for writing; both are replaced even after an exception.

    Args:
        folder: where to write.
        name: NAME.
        score_threshold: detections with lower scores are left out of the CSV.
    """
    with ExitStack() as stack:
        table = stack.enter_context(_open_preserving_partial(folder / f"{name}.csv"))
        yield ResultWriter(stack.enter_context(open_json_array(folder / f"{name}.json")), table, score_threshold)


@contextmanager
def _open_preserving_partial(file: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that is replaced even after an exception, to preserve the results written before it."""
    exception: BaseException | None = None
    with open_atomically(file) as stream:
        try:
            yield stream
        except BaseException as error:  # raised again below
            exception = error
    if exception is not None:
        raise exception


def save_jpeg(picture: Image.Image, file: Path) -> None:
    """Write a JPEG file atomically.

    Args:
        picture: RGB picture.
        file: where to write.

    Raises:
        UserError: the file cannot be written.
    """
    with open_atomically(file) as stream:
        picture.save(stream, "JPEG", quality=92)
