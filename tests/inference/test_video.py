import struct
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drfpn.inference.images import Unreadable
from drfpn.inference.video import VideoReader, count_frames, require_av, video_writer
from drfpn.utils.errors import UserError

av = pytest.importorskip("av")


def frames_of(file: Path) -> list[np.ndarray]:
    with VideoReader(file) as video:
        return [frame.permute(1, 2, 0).numpy() for frame in video.frames()]


@pytest.mark.parametrize("codec", ["h264", "mpeg4"])
@pytest.mark.parametrize("size", [(96, 64), (65, 49)])
def test_what_is_written_is_read_again(tmp_path, monkeypatch, codec, size) -> None:
    if codec == "mpeg4":
        monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    elif "libx264" not in av.codecs_available:
        pytest.skip("this build of PyAV has no libx264")
    colours = [(200, 40, 40), (40, 200, 40), (40, 40, 200)]
    rate = Fraction(30000, 1001)
    with video_writer(tmp_path / "a.mp4", rate) as writer:
        for colour in colours:
            writer.add(Image.new("RGB", size, colour))
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == codec
        assert (stream.width, stream.height) == size
        assert stream.average_rate == rate
    frames = frames_of(tmp_path / "a.mp4")
    assert len(frames) == count_frames(tmp_path / "a.mp4") == 3
    for frame, colour in zip(frames, colours, strict=True):
        assert np.abs(frame[8:-8, 8:-8].astype(int) - colour).max() <= 10
    assert list(tmp_path.iterdir()) == [tmp_path / "a.mp4"]


def turn(file: Path) -> None:
    """Tell players to turn the pictures of an .mp4 by a quarter, clockwise."""
    data = bytearray(file.read_bytes())
    matrix = data.index(b"tkhd") + 44  # behind version, times, track, duration, layer and volume
    one = 1 << 16
    assert struct.unpack_from(">9i", data, matrix) == (one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    struct.pack_into(">9i", data, matrix, 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    file.write_bytes(data)


def test_a_video_is_turned_as_it_says(tmp_path, write_video) -> None:
    write_video(tmp_path / "a.mp4")
    upright = frames_of(tmp_path / "a.mp4")
    turn(tmp_path / "a.mp4")
    for turned, frame in zip(frames_of(tmp_path / "a.mp4"), upright, strict=True):
        np.testing.assert_array_equal(turned, np.rot90(frame, -1))


def test_what_is_no_video_is_refused_in_a_sentence(tmp_path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"not a video at all")
    with pytest.raises(Unreadable, match=r"a\.mp4 cannot be read as a video"):
        VideoReader(tmp_path / "a.mp4")
    assert count_frames(tmp_path / "a.mp4") == 1


def test_a_stop_keeps_the_frames_until_then_as_a_video_that_plays(tmp_path) -> None:
    def stopped() -> None:
        with video_writer(tmp_path / "a.mp4", Fraction(10)) as writer:
            writer.add(Image.new("RGB", (64, 48)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert len(frames_of(tmp_path / "a.mp4")) == 1


def test_a_video_without_a_frame_leaves_nothing(tmp_path) -> None:
    with pytest.raises(Unreadable), video_writer(tmp_path / "a.mp4", Fraction(10)):
        raise Unreadable("broken")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_told(tmp_path) -> None:
    with (
        pytest.raises(UserError, match=r"none/a\.mp4 could not be written"),
        video_writer(tmp_path / "none" / "a.mp4", Fraction(10)) as writer,
    ):
        writer.add(Image.new("RGB", (64, 48)))


def test_without_pyav_the_user_is_told_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r'pip install "drfpn\[video\]"'):
        require_av()
