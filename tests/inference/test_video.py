import struct
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drfpn.inference.images import UnreadableInputError
from drfpn.inference.video import VideoReader, estimate_frame_count, import_av, open_video_writer
from drfpn.utils.errors import UserError

av = pytest.importorskip("av")


def read_frames(file: Path) -> list[np.ndarray]:
    with VideoReader(file) as video:
        return [frame.permute(1, 2, 0).numpy() for frame in video.frames()]


@pytest.mark.parametrize("codec", ["h264", "mpeg4"])
@pytest.mark.parametrize("size", [(96, 64), (65, 49)])
def test_written_frames_are_read_back(tmp_path, monkeypatch, codec, size) -> None:
    if codec == "mpeg4":
        monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    elif "libx264" not in av.codecs_available:
        pytest.skip("this build of PyAV has no libx264")
    colors = [(200, 40, 40), (40, 200, 40), (40, 40, 200)]
    rate = Fraction(30000, 1001)
    with open_video_writer(tmp_path / "a.mp4", rate) as writer:
        for color in colors:
            writer.add(Image.new("RGB", size, color))
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == codec
        assert (stream.width, stream.height) == size
        assert stream.average_rate == rate
    frames = read_frames(tmp_path / "a.mp4")
    assert len(frames) == estimate_frame_count(tmp_path / "a.mp4") == 3
    for frame, color in zip(frames, colors, strict=True):
        assert np.abs(frame[8:-8, 8:-8].astype(int) - color).max() <= 10
    assert list(tmp_path.iterdir()) == [tmp_path / "a.mp4"]


@pytest.mark.parametrize("last", [0, 400])
def test_a_rate_that_is_the_resolution_of_the_clock_is_measured(tmp_path, last) -> None:
    """Browsers write WebM and Matroska with the rate 1000, one for each of the milliseconds of its timestamps."""
    times = [0, 40, 80, 120, 160 + last]
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("mpeg4", rate=1000)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for time in times:
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), dtype=np.uint8), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(tmp_path / "a.mkv")) as container:
        assert container.streams.video[0].average_rate == 1000
    with VideoReader(tmp_path / "a.mkv") as video:
        assert video.frame_rate == Fraction(4 * 1000, times[-1])
        assert video.estimated_frames == len(list(video.frames())) == 5


@pytest.mark.parametrize(("share", "warned"), [(1.0, False), (0.5, True)])
def test_a_video_that_ends_before_its_duration_is_named(tmp_path, write_video, caplog, share, warned) -> None:
    write_video(tmp_path / "a.mkv", frames=40, width=320)
    content = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "a.mkv").write_bytes(content[: int(share * len(content))])
    frames = read_frames(tmp_path / "a.mkv")
    assert (f"a.mkv ends after {len(frames)} frames, but should have about 40" in caplog.text) is warned


def test_a_frame_of_another_size_gets_borders(tmp_path) -> None:
    with open_video_writer(tmp_path / "a.mp4", Fraction(25)) as writer:
        writer.add(Image.new("RGB", (96, 64), "white"))
        writer.add(Image.new("RGB", (64, 128), "white"))
    _, frame = read_frames(tmp_path / "a.mp4")
    assert frame.shape == (64, 96, 3)
    assert frame[:, :24].max() <= 40
    assert frame[:, 72:].max() <= 40
    assert frame[8:-8, 40:56].min() >= 215


def rotate(file: Path) -> None:
    """Set the metadata of an .mp4 to a rotation by 90 degrees clockwise."""
    data = bytearray(file.read_bytes())
    matrix = data.index(b"tkhd") + 44  # after version, times, track, duration, layer and volume
    one = 1 << 16
    assert struct.unpack_from(">9i", data, matrix) == (one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    struct.pack_into(">9i", data, matrix, 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    file.write_bytes(data)


def test_frames_are_rotated_according_to_the_metadata(tmp_path, write_video) -> None:
    write_video(tmp_path / "a.mp4")
    upright = read_frames(tmp_path / "a.mp4")
    rotate(tmp_path / "a.mp4")
    for rotated, frame in zip(read_frames(tmp_path / "a.mp4"), upright, strict=True):
        np.testing.assert_array_equal(rotated, np.rot90(frame, -1))


def test_the_error_of_a_file_that_is_not_a_video_is_one_sentence(tmp_path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"not a video at all")
    with pytest.raises(UnreadableInputError, match=r"a\.mp4 cannot be read as a video"):
        VideoReader(tmp_path / "a.mp4")
    assert estimate_frame_count(tmp_path / "a.mp4") == 1


def test_ctrl_c_preserves_the_frames_written_before(tmp_path) -> None:
    def interrupted() -> None:
        with open_video_writer(tmp_path / "a.mp4", Fraction(10)) as writer:
            writer.add(Image.new("RGB", (64, 48)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(read_frames(tmp_path / "a.mp4")) == 1


def test_no_file_is_written_without_a_frame(tmp_path) -> None:
    with pytest.raises(UnreadableInputError), open_video_writer(tmp_path / "a.mp4", Fraction(10)):
        raise UnreadableInputError("broken")
    assert list(tmp_path.iterdir()) == []


def test_the_error_of_a_missing_folder_names_the_file(tmp_path) -> None:
    with (
        pytest.raises(UserError, match=r"none/a\.mp4 could not be written"),
        open_video_writer(tmp_path / "none" / "a.mp4", Fraction(10)) as writer,
    ):
        writer.add(Image.new("RGB", (64, 48)))


def test_the_error_without_pyav_names_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r'pip install "drfpn\[video\]"'):
        import_av()
