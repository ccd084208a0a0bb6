"""A detector, or two, on many files: pictures, videos and results in a folder."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drfpn.inference.compare import compare, draw_comparison, require_common_class
from drfpn.inference.detections import Detections
from drfpn.inference.images import Unreadable, as_image
from drfpn.inference.inputs import coco_ids, is_video, output_files
from drfpn.inference.outputs import json_list, result_files, save_picture
from drfpn.inference.predictor import Predictor
from drfpn.inference.video import VideoReader, count_frames, require_av, video_writer
from drfpn.utils.console import Bar, bar, say
from drfpn.utils.errors import UserError, message_of
from drfpn.utils.io import write_json


@dataclass
class Done:
    """What came of the files."""

    images: int = 0
    """Pictures drawn."""
    videos: int = 0
    """Videos drawn to their end."""
    frames: int = 0
    """Frames of videos that the detector looked at."""
    detections: int = 0
    """In images and frames, of the first detector."""
    failed: list[str] = field(default_factory=list)
    """Files that could not be read."""
    compared: dict[str, int] | None = None
    """How many ``both``, ``only_left`` and ``only_right`` found in all images; ``None`` for one detector."""


def predict_files(
    predictor: Predictor,
    files: Sequence[Path],
    out: Path,
    *,
    min_score: float = 0.5,
    every: int = 1,
    other: Predictor | None = None,
) -> Done:
    """Look at each file, draw what is found, and write it all to ``out``.

    Written are a picture or video for each file, ``results.json``, ``results.csv`` and ``images.json``; with a second
    detector also ``compare.json``, and the second's ``results-compare.json`` and ``results-compare.csv``. A file that
    cannot be read is told and does not cost the others.

    Args:
        predictor: the detector.
        files: images and videos.
        out: the folder, made if missing.
        min_score: of what is drawn, compared, and listed in the tables.
        every: the detector looks at each n-th frame of a video, and what it found is drawn until the next look.
        other: a second detector, drawn beside the first.

    Raises:
        UserError: a video without PyAV or with a second detector, two detectors without a common class, or a result
            that cannot be written.
    """
    videos = [file for file in files if is_video(file)]
    if videos:
        require_av()
        if other is not None:
            raise UserError(f"Two detectors are compared on images only, and {videos[0]} is a video.", exit_code=2)
    if other is not None:
        require_common_class(predictor.classes, other.classes)
    targets = output_files(files, out)
    ids = coco_ids(files)
    out.mkdir(parents=True, exist_ok=True)
    total = len(files) - len(videos) + sum(map(count_frames, videos))
    with ExitStack() as stack:
        job = _Job(predictor, other, out, min_score, stack)
        progress = stack.enter_context(bar("predicting", total))
        for number, (file, target) in enumerate(zip(files, targets, strict=True)):
            try:
                if is_video(file):
                    job.video(file, target, every, progress)
                else:
                    job.image(file, target, None if ids is None else ids[number])
                    progress.advance()
            except Unreadable as error:
                job.done.failed.append(str(file))
                say(f"drfpn: {message_of(error)}")
    if other is not None:
        job.write_comparison(out / "compare.json")
    return job.done


class _Job:
    """Detectors and the files that their results go to, which ``stack`` closes."""

    def __init__(
        self, predictor: Predictor, other: Predictor | None, out: Path, min_score: float, stack: ExitStack
    ) -> None:
        self.predictor = predictor
        self.other = other
        self.min_score = min_score
        self.done = Done()
        self._results = stack.enter_context(result_files(out, "results", min_score))
        self._index = stack.enter_context(json_list(out / "images.json"))
        self._next_id = 1
        self._comparisons: list[dict[str, Any]] = []
        if other is not None:
            self._other_results = stack.enter_context(result_files(out, "results-compare", min_score))
            same = predictor.name == other.name
            self._names = (
                f"{predictor.name} (left)" if same else predictor.name,
                f"{other.name} (right)" if same else other.name,
            )

    def image(self, file: Path, target: Path, image_id: int | None) -> None:
        """Draw what is found in an image; ``image_id`` is ``None`` for the next number."""
        image = as_image(file)
        found = self.predictor(image)
        image_id = self._record(found, file, image_id)
        if self.other is None:
            picture = found.above(self.min_score).plot(image)
        else:
            theirs = self.other(image)
            self._other_results.add(theirs, image_id, file)
            comparison = compare(found.above(self.min_score), theirs.above(self.min_score))
            self._comparisons.append({"id": image_id, "file_name": str(file), **comparison.counts()})
            picture = draw_comparison(comparison, image, self._names)
        save_picture(picture, target)
        self.done.images += 1

    def video(self, file: Path, target: Path, every: int, progress: Bar) -> None:
        """Draw what is found in each frame; between the frames looked at, what was found last."""
        with VideoReader(file) as source, video_writer(target, source.rate) as writer:
            for number, frame in enumerate(source.frames()):
                if number % every == 0:
                    everything = self.predictor(frame)
                    self._record(everything, file, None, number)
                    found = everything.above(self.min_score)
                    self.done.frames += 1
                writer.add(found.plot(frame, min_side=0))  # as large as the frame
                progress.advance()
        self.done.videos += 1

    def write_comparison(self, file: Path) -> None:
        """Write the counts of each image and of all."""
        keys = ("both", "only_left", "only_right")
        self.done.compared = {key: sum(row[key] for row in self._comparisons) for key in keys}
        left, right = self._names
        write_json(file, {"left": left, "right": right, "all": self.done.compared, "images": self._comparisons})

    def _record(self, found: Detections, file: Path, image_id: int | None, frame: int | None = None) -> int:
        """Write the detections and the entry of an image or frame, and return its id."""
        if image_id is None:
            image_id, self._next_id = self._next_id, self._next_id + 1
        entry: dict[str, Any] = {"id": image_id, "file_name": str(file)}
        if frame is not None:
            entry["frame"] = frame
        self._index.add(entry | {"height": found.size[0], "width": found.size[1]})
        self._results.add(found, image_id, file, frame)
        self.done.detections += len(found)
        return image_id
