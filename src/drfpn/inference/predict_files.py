"""``predict_files``: inference on many images and videos, with pictures and results written to a folder."""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from torch import Tensor

from drfpn.inference.compare import Comparison, compare, draw_comparison, require_common_class
from drfpn.inference.detections import Detections
from drfpn.inference.images import UnreadableInputError, to_image_tensor
from drfpn.inference.inputs import coco_image_ids, is_video, output_files
from drfpn.inference.outputs import open_json_array, open_result_writer, save_jpeg, write_categories
from drfpn.inference.predictor import Predictor
from drfpn.inference.shards import ShardRecord, digest, finish_shard, start_shard
from drfpn.inference.summary import PredictionSummary
from drfpn.inference.tiling import TiledDetector
from drfpn.inference.video import VideoReader, estimate_frame_count, import_av, open_video_writer
from drfpn.utils.console import Bar, bar
from drfpn.utils.errors import UsageError, message_of
from drfpn.utils.io import make_folder, write_json
from drfpn.utils.shard import Shard

logger = logging.getLogger(__name__)

_LOGGED_REMARKS = 5


def predict_files(
    predictor: Predictor,
    files: Sequence[Path],
    out: Path,
    *,
    score_threshold: float = 0.5,
    frame_stride: int = 1,
    compare_with: Predictor | None = None,
    shard: Shard | None = None,
) -> PredictionSummary:
    """Run a detector on images and videos, and write annotated copies and results to a folder.

    ``out`` gets a picture (.jpg) or video (.mp4) for each file, ``results.json`` (all detections in COCO's results
    format), ``results.csv`` (drawn detections), ``images.json`` (file, size and frame of each image id) and
    ``categories.json`` (name of each category id); with a second detector also ``compare.json`` and its results, whose
    names end in ``-compare``. A file that cannot be read is logged as a warning and skipped. Of an image file with
    several pages the first is read, with a warning.

    Args:
        predictor: the detector, which detects in tiles if it was loaded with ``tile``.
        files: images and videos.
        out: output folder, created if missing.
        score_threshold: minimum score, 0..1, of detections that are drawn, compared, and written to CSV.
        frame_stride: the detector is run on every n-th frame of a video; frames between show its last detections.
        compare_with: a second detector, drawn to the right of the first; for images only.
        shard: the part of the files to predict, if several processes share the work. Each is given all files. The
            results of a shard go to ``out/shards``; the last one to end writes those of all to ``out``, with the
            contents that one process would write.

    Raises:
        UserError: a video without the package PyAV, two detectors without a common class, an output file that is one
            of the inputs, or a folder or result that cannot be written.
        UsageError: a video with a second detector.
    """
    videos = [file for file in files if is_video(file)]
    if videos:
        import_av()
        if compare_with is not None:
            raise UsageError(f"Two detectors are compared on images only, and {videos[0]} is a video.")
    if compare_with is not None:
        require_common_class(predictor.classes, compare_with.classes)
    outputs = output_files(files, out)
    ids = coco_image_ids(files)
    own_ids = repeat(None, len(files)) if ids is None else ids
    work = [_Work(*each) for each in zip(files, outputs, own_ids, strict=True)]
    if shard is None:
        make_folder(out)
        return _predict(predictor, work, out, score_threshold, frame_stride, compare_with)
    detectors = [each for each in (predictor, compare_with) if each is not None]
    key = digest(files, detectors, [score_threshold, frame_stride])
    part = work[shard.slice_of(work)]
    summary = _predict(predictor, part, start_shard(out, shard), score_threshold, frame_stride, compare_with)
    summary.missing_shards = finish_shard(out, shard, ShardRecord(digest=key, has_ids=ids is not None, summary=summary))
    return summary


class _Work(NamedTuple):
    """An input, its picture or video, and its image id; ``None`` for the next free id."""

    file: Path
    output: Path
    image_id: int | None


def _predict(
    predictor: Predictor,
    work: Sequence[_Work],
    folder: Path,
    score_threshold: float,
    frame_stride: int,
    compare_with: Predictor | None,
) -> PredictionSummary:
    """Run a detector on files and write the results to ``folder``; see :func:`predict_files`."""
    total = sum(estimate_frame_count(each.file) if is_video(each.file) else 1 for each in work)
    with ExitStack() as stack:
        session = _PredictionSession(predictor, compare_with, folder, score_threshold, stack)
        progress = stack.enter_context(bar("predicting", total))
        for each in (predictor, compare_with):
            if each is not None and isinstance(each.model, TiledDetector):
                each.model.on_batch = lambda done, count: progress.show(f"tile {done}/{count}")
        for file, output, image_id in work:
            try:
                if file.is_file() and not file.stat().st_size:
                    raise UnreadableInputError(f"{file} is empty: it has 0 bytes.")
                if is_video(file):
                    session.process_video(file, output, frame_stride, progress)
                else:
                    session.process_image(file, output, image_id)
                    progress.advance()
            except UnreadableInputError as error:
                session.summary.failed.append(str(file))
                logger.warning("%s", message_of(error))
    if compare_with is not None:
        session.write_comparison(folder / "compare.json")
    if len(session.summary.remarks) > _LOGGED_REMARKS:
        logger.warning("... and so on: %d remarks in all.", len(session.summary.remarks))
    return session.summary


class _PredictionSession:
    """Detectors and open result files of one call of :func:`predict_files`; ``stack`` closes the files."""

    def __init__(
        self, predictor: Predictor, second: Predictor | None, out: Path, score_threshold: float, stack: ExitStack
    ) -> None:
        self.predictor = predictor
        self.second = second
        self.score_threshold = score_threshold
        self.summary = PredictionSummary()
        self._results = stack.enter_context(open_result_writer(out, "results", score_threshold))
        self._images = stack.enter_context(open_json_array(out / "images.json"))
        write_categories(out, "categories", predictor)
        self._next_id = 1
        self._comparisons: list[dict[str, Any]] = []
        if second is not None:
            self._second_results = stack.enter_context(open_result_writer(out, "results-compare", score_threshold))
            write_categories(out, "categories-compare", second)
            same = predictor.name == second.name
            self._names = (
                f"{predictor.name} (left)" if same else predictor.name,
                f"{second.name} (right)" if same else second.name,
            )

    def process_image(self, file: Path, output: Path, image_id: int | None) -> None:
        """Run the detectors on an image; without ``image_id`` it gets the next free id."""
        image = to_image_tensor(file, warn=self._remark)
        detections = self.predictor(image)
        image_id = self._write_detections(detections, file, image_id)
        drawn = detections.above(self.score_threshold)
        picture = drawn.plot(image) if self.second is None else self._compare(drawn, self.second, image, file, image_id)
        save_jpeg(picture, output)
        self.summary.images += 1

    def _remark(self, text: str) -> None:
        """Log the first remarks; the others are counted at the end."""
        self.summary.remarks.append(text)
        if len(self.summary.remarks) <= _LOGGED_REMARKS:
            logger.warning("%s", text)

    def _compare(
        self, drawn: Detections, predictor: Predictor, image: Tensor, file: Path, image_id: int
    ) -> Image.Image:
        """Run the second detector, write its results, and draw both."""
        detections = predictor(image)
        self._second_results.add(detections, image_id, file)
        comparison = compare(drawn, detections.above(self.score_threshold))
        self._comparisons.append({"id": image_id, "file_name": str(file), **_json_counts(comparison)})
        return draw_comparison(comparison, image, self._names)

    def process_video(self, file: Path, output: Path, frame_stride: int, progress: Bar) -> None:
        """Run the detector on every n-th frame of a video; frames between show the last detections."""
        with VideoReader(file) as reader, open_video_writer(output, reader.frame_rate) as writer:
            for number, frame in enumerate(reader.frames()):
                if number % frame_stride == 0:
                    detections = self.predictor(frame)
                    self._write_detections(detections, file, None, number)
                    drawn = detections.above(self.score_threshold)
                    self.summary.frames += 1
                writer.add(drawn.plot(frame, min_side=0))  # not enlarged
                progress.advance()
        self.summary.videos += 1

    def write_comparison(self, file: Path) -> None:
        """Write the counts of each image and of all images."""
        keys = ("both", "only_left", "only_right")
        self.summary.compared = {key: sum(row[key] for row in self._comparisons) for key in keys}
        left, right = self._names
        write_json(file, {"left": left, "right": right, "all": self.summary.compared, "images": self._comparisons})

    def _write_detections(
        self, detections: Detections, file: Path, image_id: int | None, frame: int | None = None
    ) -> int:
        """Write the detections and the entry of an image or frame, and return its id."""
        if image_id is None:
            image_id, self._next_id = self._next_id, self._next_id + 1
        entry: dict[str, Any] = {"id": image_id, "file_name": str(file)}
        if frame is not None:
            entry["frame"] = frame
        height, width = detections.image_size
        self._images.add(entry | {"height": height, "width": width})
        self._results.add(detections, image_id, file, frame)
        self.summary.detections += len(detections)
        return image_id


def _json_counts(comparison: Comparison) -> dict[str, int]:
    """Return the counts with the keys of ``compare.json``, where the first detector is the left one."""
    counts = comparison.counts()
    return {"both": counts["both"], "only_left": counts["only_first"], "only_right": counts["only_second"]}
