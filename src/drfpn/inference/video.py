"""Video files: reading frame by frame, and writing as H.264."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from drfpn.inference.images import UnreadableInputError
from drfpn.utils.errors import UserError
from drfpn.utils.packages import import_optional

logger = logging.getLogger(__name__)

_DEFAULT_FRAME_RATE = Fraction(25)
_MAX_STATED_RATE = 240  # frames per second; a greater one is checked against the timestamps
_COMPLETE = 0.9  # share of the stated frames; the duration may be that of longer sound
_MAX_DENOMINATOR = 60_000  # MPEG-4 stores the unit of time in 16 bits


def import_av() -> ModuleType:
    """Import PyAV.

    Raises:
        UserError: it is not installed.
    """
    return import_optional("av", "video", feature="Reading a video")


class VideoReader:
    """Reader of the frames of a video file, one at a time.

    Args:
        file: the video.

    Raises:
        UnreadableInputError: the file is not a video or cannot be opened.
        UserError: the package PyAV is not installed.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._av = import_av()
        try:
            self._container = self._av.open(str(file))
        except (self._av.error.FFmpegError, OSError) as error:
            raise UnreadableInputError(f"{file} cannot be read as a video: {_reason(error)}.") from error
        if not self._container.streams.video:
            self._container.close()
            raise UnreadableInputError(f"{file} cannot be read as a video: it has no video stream.")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self._counted_frames = 0
        rate = self._stream.average_rate or self._stream.guessed_rate
        if not rate or rate > _MAX_STATED_RATE:
            self._counted_frames, measured = self._measure()
            rate = measured or rate or _DEFAULT_FRAME_RATE
        self.frame_rate = Fraction(rate.numerator, rate.denominator)
        """Frames per second, average of the whole video."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    @property
    def estimated_frames(self) -> int:
        """Number of frames according to the header, or estimated from the duration; 0 where both are missing."""
        if self._counted_frames or self._stream.frames:
            return int(self._counted_frames or self._stream.frames)
        duration = self._container.duration  # in units of av.time_base
        return round(duration / self._av.time_base * self.frame_rate) if duration else 0

    def _measure(self) -> tuple[int, Fraction | None]:
        """Return the number of frames, and frames per second by their timestamps; ``None`` if it has fewer than two.

        Browsers and cameras that record WebM or Matroska state the resolution of their clock as the rate: 1000.
        """
        times = []
        with self._av.open(str(self.file)) as container:  # of its own, since not every file can be rewound
            stream = container.streams.video[0]
            with suppress(self._av.error.FFmpegError, OSError):  # a file that is cut off has timestamps until there
                times = [packet.pts for packet in container.demux(stream) if packet.pts is not None]
            duration = (max(times) - min(times)) * stream.time_base if times else Fraction(0)
        return len(times), Fraction(len(times) - 1) / duration if duration else None

    def frames(self) -> Iterator[Tensor]:
        """Yield each frame as uint8 (3, H, W), RGB, rotated according to the metadata of the file.

        A file that ends long before its stated duration is logged as a warning.

        Raises:
            UnreadableInputError: the next frame cannot be decoded, or there is none at all.
        """
        decoded = self._container.decode(self._stream)
        number = 0
        while True:
            try:
                frame = next(decoded, None)
            except (self._av.error.FFmpegError, OSError) as error:
                raise UnreadableInputError(
                    f"{self.file} is broken after frame {number - 1}: {_reason(error)}."
                ) from error
            if frame is None:
                break
            pixels = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)  # both are counterclockwise
            yield torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)
            number += 1
        if number == 0:
            raise UnreadableInputError(f"{self.file} cannot be read as a video: none of its frames can be decoded.")
        if number < _COMPLETE * self.estimated_frames - 1:
            logger.warning(
                "%s ends after %d frames, but should have about %d: it may be cut off.",
                self.file,
                number,
                self.estimated_frames,
            )


class VideoWriter:
    """Writer of an .mp4 file, one frame at a time; the first frame sets the size.

    H.264 where PyAV has libx264, else MPEG-4.

    Args:
        file: where to write.
        frame_rate: frames per second.
    """

    def __init__(self, file: Path, frame_rate: Fraction) -> None:
        self._av = import_av()
        self._container = self._av.open(str(file), "w", format="mp4", options={"movflags": "faststart"})
        self._time_base = (1 / frame_rate).limit_denominator(_MAX_DENOMINATOR)
        self._h264 = "libx264" in self._av.codecs_available
        # MPEG-4 files do not store the color space, and players assume BT.601
        self._colorspace = "ITU709" if self._h264 else "ITU601"
        self._stream: Any = None
        self.frames = 0
        """Number of frames written."""

    def add(self, picture: Image.Image) -> None:
        """Append a frame.

        Args:
            picture: RGB picture; one of another size than the first is resized to fit in, with black borders.
        """
        if self._stream is None:
            self._stream = self._add_stream(picture.width, picture.height)
        size = (self._stream.width, self._stream.height)
        if picture.size != size:
            picture = ImageOps.pad(picture, size)
        frame = self._av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")
        frame = frame.reformat(format=self._stream.pix_fmt, dst_colorspace=self._colorspace)
        frame.pts, frame.time_base = self.frames, self._time_base
        self._container.mux(self._stream.encode(frame))
        self.frames += 1

    def close(self) -> None:
        """Encode the remaining frames and close the file."""
        if self._stream is not None:
            self._container.mux(self._stream.encode(None))
        self._container.close()

    def _add_stream(self, width: int, height: int) -> Any:
        stream = self._container.add_stream("libx264" if self._h264 else "mpeg4", rate=1 / self._time_base)
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv420p"
        if self._h264:
            stream.options = {"crf": "20"}
            if width % 2 or height % 2:
                stream.pix_fmt = "yuv444p"  # subsampled chroma needs an even width and height
            stream.codec_context.colorspace = 1  # ITU-R BT.709
            stream.codec_context.color_range = 1  # 16 to 235
        else:
            stream.bit_rate = int(width * height / self._time_base * Fraction("0.2"))  # bits per pixel
        return stream


@contextmanager
def open_video_writer(file: Path, frame_rate: Fraction) -> Iterator[VideoWriter]:
    """Open a video for writing; ``file`` is replaced at the end.

    After an exception (broken input, Ctrl-C) too, if any frame was written: they are preserved as a video that plays.

    Args:
        file: where to write, .mp4.
        frame_rate: frames per second.

    Raises:
        UserError: the file cannot be written; an existing file is unchanged.
    """
    av = import_av()
    part = file.with_name(file.name + ".part")
    try:
        writer = VideoWriter(part, frame_rate)
        try:
            yield writer
        finally:
            writer.close()
            if writer.frames:
                part.replace(file)
    except (av.error.FFmpegError, OSError) as error:
        raise UserError(
            f"{file} could not be written ({_reason(error)}); what was there before is unchanged."
        ) from error
    finally:
        part.unlink(missing_ok=True)


def estimate_frame_count(file: Path) -> int:
    """Return the estimated number of frames of a video, at least 1; 1 if it cannot be read."""
    try:
        with VideoReader(file) as video:
            return max(1, video.estimated_frames)
    except UnreadableInputError:
        return 1


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).rstrip(".")
