"""Lines of YOLO's label files: a class id and a box, a polygon, or a box with keypoints."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from drfpn.data.formats.yolo_keypoints import KeypointEvidence, looks_like_visibility
from drfpn.data.formats.yolo_yaml import YoloConfig, is_yolo_yaml
from drfpn.data.validation.issues import Issue, IssueHandler

TOLERANCE = 0.01
"""By how much a relative coordinate may be outside 0..1: rounding and imprecise tools cause as much."""

BOX_WORDS = 5
MIN_POLYGON_WORDS = 7


@dataclass(frozen=True)
class YoloLine:
    """A valid line: a box (center, width, height) or a polygon in relative coordinates."""

    label: int
    coordinates: list[float]

    @property
    def is_box(self) -> bool:
        """Whether the coordinates are those of a box."""
        return len(self.coordinates) == BOX_WORDS - 1


class LineReader:
    """Reads the label files of a split.

    Args:
        config: configuration of the data set.
    """

    def __init__(self, config: YoloConfig) -> None:
        self._classes = len(config.classes)
        self._config = config
        self._evidence = KeypointEvidence()

    def read(self, text: str, file: Path, on_issue: IssueHandler) -> Iterator[YoloLine]:
        """Yield the valid lines of a file.

        Args:
            text: its contents.
            file: its path, for messages.
            on_issue: called with each issue.
        """
        first_lines: dict[tuple[str, ...], int] = {}
        for number, line in enumerate(text.splitlines(), start=1):
            words = tuple(line.split())
            if not words:
                continue
            location = f"{file}: line {number}"
            if words in first_lines:
                observed = f"it repeats line {first_lines[words]} and is left out"
                on_issue(Issue("repeated-line", location, observed, "each object once", fatal=False))
                continue
            first_lines[words] = number
            parsed = self._parse(words, location)
            if isinstance(parsed, Issue):
                on_issue(parsed)
            else:
                yield parsed

    def ambiguity(self) -> Issue | None:
        """Return an issue if the lines read so far may be polygons or boxes with keypoints."""
        shape = self._evidence.shape()
        if shape is None:
            return None
        count, dims = shape
        words = BOX_WORDS + count * dims
        observed = (
            f"its lines of {words} numbers may be polygons of {(words - 1) // 2} points, or boxes with "
            f"{count} {'keypoint' if count == 1 else 'keypoints'} of {dims} values"
        )
        return Issue("labels-ambiguous", self._evidence.location, observed, self._expected_shape(count, dims))

    def _parse(self, words: tuple[str, ...], location: str) -> YoloLine | Issue:
        if self._config.keypoints is not None:
            count, dims = self._config.keypoints
            expected_words = BOX_WORDS + count * dims
            if len(words) not in (BOX_WORDS, expected_words):
                expected = f"{expected_words}: a class id, a box and the keypoints of `kpt_shape: [{count}, {dims}]`"
                return Issue("bad-record", location, f"it has {len(words)} words", expected)
        elif (issue := self._length_issue(words, location)) is not None:
            return issue
        numbers = _numbers(words, location)
        if isinstance(numbers, Issue):
            return numbers
        class_id, *coordinates = numbers
        if not class_id.is_integer():
            return Issue("bad-record", location, f"its class id is {words[0]}", "a whole number")
        if not 0 <= class_id < self._classes:
            source = "the YAML file" if is_yolo_yaml(self._config.file) else self._config.file.name
            plural = "class" if self._classes == 1 else "classes"
            expected = f"0 to {self._classes - 1}, as {source} names {self._classes} {plural}"
            return Issue("unknown-category", location, f"its class id is {words[0]}", expected)
        if self._config.keypoints is not None:
            coordinates = coordinates[: BOX_WORDS - 1]
        worst = max(coordinates, key=lambda coordinate: abs(coordinate - 0.5))
        if abs(worst - 0.5) > 0.5 + TOLERANCE:
            position = coordinates.index(worst) + 1
            expected = "fractions of the image's width and height, 0 to 1 (not pixels)"
            return Issue("bad-record", location, f"its coordinate {position} is {words[position]}", expected)
        if len(words) > BOX_WORDS and self._config.keypoints is None and not self._config.has_polygons:
            self._evidence.add(coordinates, location)
        return YoloLine(int(class_id) + 1, coordinates)

    def _length_issue(self, words: tuple[str, ...], location: str) -> Issue | None:
        """Return an issue if the number of words is neither that of a box nor that of a polygon."""
        is_length = len(words) == BOX_WORDS or (len(words) >= MIN_POLYGON_WORDS and len(words) % 2 == 1)
        if not self._config.has_polygons and looks_like_visibility(words[BOX_WORDS:], is_polygon=is_length):
            count = (len(words) - BOX_WORDS) // 3
            observed = f"it may be a box with {count} {'keypoint' if count == 1 else 'keypoints'} x, y, visibility"
            return Issue("labels-ambiguous", location, observed, self._expected_shape(count, 3))
        if is_length:
            return None
        expected = "a class id and a box (four numbers) or a polygon (x and y of three points or more)"
        observed = f"it has {len(words)} {'word' if len(words) == 1 else 'words'}"
        if len(words) == BOX_WORDS + 1:
            observed += ", as a prediction with its confidence has"
        return Issue("bad-record", location, observed, expected)

    def _expected_shape(self, count: int, dims: int) -> str:
        name = self._config.file.name if is_yolo_yaml(self._config.file) else "a YAML file"
        return f"`kpt_shape: [{count}, {dims}]` in {name} for keypoints, or `task: segment` for polygons"


def _numbers(words: tuple[str, ...], location: str) -> list[float] | Issue:
    numbers = []
    for position, word in enumerate(words, start=1):
        try:
            number = float(word)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            return Issue("bad-record", location, f"its word {position} is {word!r:.60}", "a finite number")
        numbers.append(number)
    return numbers
