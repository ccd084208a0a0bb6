"""Videos, frame by frame: read, and written as H.264."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from drfpn.inference.images import Unreadable
from drfpn.utils.errors import UserError

_UNKNOWN_RATE = Fraction(25)
_MAX_TERM = 60_000  # MPEG-4 has 16 bits for the unit of time


def require_av() -> ModuleType:
    """Return PyAV.

    Raises:
        UserError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise UserError('Videos need the package PyAV, which is not installed: pip install "drfpn[video]"') from error
    return av


class VideoReader:
    """The frames of a video file, decoded one at a time.

    Args:
        file: the video.

    Raises:
        Unreadable: it is no video that can be read.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._av = require_av()
        try:
            self._container = self._av.open(str(file))
        except (self._av.error.FFmpegError, OSError) as error:
            raise Unreadable(f"{file} cannot be read as a video: {_reason(error)}.") from error
        if not self._container.streams.video:
            self._container.close()
            raise Unreadable(f"{file} cannot be read as a video: there are no pictures in it.")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        rate = self._stream.average_rate or self._stream.guessed_rate
        self.rate = Fraction(rate.numerator, rate.denominator) if rate else _UNKNOWN_RATE
        """Frames a second, the mean of the whole video."""

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    @property
    def expected_frames(self) -> int:
        """How many frames the file says or its duration suggests; 0 where it tells neither."""
        if self._stream.frames:
            return int(self._stream.frames)
        duration = self._container.duration  # in units of av.time_base
        return round(duration / self._av.time_base * self.rate) if duration else 0

    def frames(self) -> Iterator[Tensor]:
        """Yield each frame as uint8 (3, H, W), RGB, turned as the file says.

        Raises:
            Unreadable: the file is broken from here on.
        """
        decoded = self._container.decode(self._stream)
        number = 0
        while True:
            try:
                frame = next(decoded, None)
            except (self._av.error.FFmpegError, OSError) as error:
                raise Unreadable(f"{self.file} is broken after frame {number - 1}: {_reason(error)}.") from error
            if frame is None:
                break
            pixels = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)  # both counter-clockwise
            yield torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)
            number += 1
        if number == 0:
            raise Unreadable(f"{self.file} cannot be read as a video: no frame in it can be decoded.")


class VideoWriter:
    """An .mp4 file that grows picture by picture; its size is that of the first.

    Args:
        file: where to write.
        rate: frames a second.
    """

    def __init__(self, file: Path, rate: Fraction) -> None:
        self._av = require_av()
        self._container = self._av.open(str(file), "w", format="mp4", options={"movflags": "faststart"})
        self._step = (1 / rate).limit_denominator(_MAX_TERM)
        self._h264 = "libx264" in self._av.codecs_available
        # MPEG-4 cannot say which one it has, and players take it for the older
        self._colours = "ITU709" if self._h264 else "ITU601"
        self._stream: Any = None
        self.frames = 0

    def add(self, picture: Image.Image) -> None:
        """Append a picture."""
        if self._stream is None:
            self._stream = self._begin(picture.width, picture.height)
        frame = self._av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")
        frame = frame.reformat(format=self._stream.pix_fmt, dst_colorspace=self._colours)
        frame.pts, frame.time_base = self.frames, self._step
        self._container.mux(self._stream.encode(frame))
        self.frames += 1

    def close(self) -> None:
        """Finish the file."""
        if self._stream is not None:
            self._container.mux(self._stream.encode(None))
        self._container.close()

    def _begin(self, width: int, height: int) -> Any:
        stream = self._container.add_stream("libx264" if self._h264 else "mpeg4", rate=1 / self._step)
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv420p"
        if self._h264:
            stream.options = {"crf": "20"}
            if width % 2 or height % 2:
                stream.pix_fmt = "yuv444p"  # halved colours need pairs of pixels
            stream.codec_context.colorspace = 1  # ITU-R BT.709
            stream.codec_context.color_range = 1  # 16 to 235
        else:
            stream.bit_rate = int(width * height / self._step * Fraction("0.2"))  # bits a pixel
        return stream


@contextmanager
def video_writer(file: Path, rate: Fraction) -> Iterator[VideoWriter]:
    """Open a video to write, which takes its place when it is whole.

    Where the work stops early (a broken input, Ctrl-C) the frames until then are kept as a video that plays.

    Raises:
        UserError: it cannot be written; what was there before is untouched.
    """
    av = require_av()
    part = file.with_name(file.name + ".part")
    try:
        writer = VideoWriter(part, rate)
        try:
            yield writer
        finally:
            writer.close()
            if writer.frames:
                part.replace(file)
    except (av.error.FFmpegError, OSError) as error:
        raise UserError(
            f"{file} could not be written ({_reason(error)}); what was there before is untouched."
        ) from error
    finally:
        part.unlink(missing_ok=True)


def count_frames(file: Path) -> int:
    """Return how many frames a video probably has, at least 1, also of a file that cannot be read."""
    try:
        with VideoReader(file) as video:
            return max(1, video.expected_frames)
    except Unreadable:
        return 1


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).rstrip(".")
