import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, features

from drfpn.data.image_io import image_size, load_image, load_with_remarks
from drfpn.utils.errors import UserError


def gradient(height: int = 6, width: int = 9) -> np.ndarray:
    """An image whose pixels all differ, so that any rotation or permutation of channels is detected."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 20, columns * 20, rows * 5 + columns * 7], axis=2).astype(np.uint8)


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def as_chw(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)


def test_rgb_is_unchanged(tmp_path: Path) -> None:
    pixels = gradient()
    path = save(tmp_path / "a.png", Image.fromarray(pixels))
    torch.testing.assert_close(load_image(path), as_chw(pixels))
    torch.testing.assert_close(load_image(str(path)), as_chw(pixels))
    torch.testing.assert_close(load_image(io.BytesIO(path.read_bytes())), as_chw(pixels))


# How a stored image is rotated for each EXIF orientation (TIFF 6.0, tag 274), with numpy alone.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_to_pixels_and_size(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    pixels = gradient()
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(pixels), exif=exif)
    expected = as_chw(np.ascontiguousarray(UPRIGHT[orientation](pixels)))
    torch.testing.assert_close(load_image(path), expected)
    assert image_size(path) == tuple(expected.shape[1:])


def test_grayscale_is_repeated(tmp_path: Path) -> None:
    gray = gradient()[..., 2]
    path = save(tmp_path / "a.png", Image.fromarray(gray))
    torch.testing.assert_close(load_image(path), torch.from_numpy(gray).expand(3, -1, -1))


def test_sixteen_bits_scale_to_eight(tmp_path: Path) -> None:
    values = np.array([[0, 257, 257 * 128, 65535]], dtype=np.uint16)
    for suffix in ("png", "tiff"):
        path = save(tmp_path / f"a.{suffix}", Image.fromarray(values))
        assert load_image(path)[0].tolist() == [[0, 1, 128, 255]]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    path = save(tmp_path / "a.png", image.convert(mode))
    assert load_image(path).tolist() == [[[0, 255]]] * 3


def test_palette_cmyk_and_bilevel_become_rgb(tmp_path: Path) -> None:
    red = Image.new("RGB", (16, 16), (255, 0, 0))
    for name, image in {"p.png": red.convert("P"), "p.gif": red, "c.tif": red.convert("CMYK")}.items():
        assert load_image(save(tmp_path / name, image))[:, 8, 8].tolist() == [255, 0, 0]
    white = save(tmp_path / "b.png", Image.new("1", (4, 4), 1))
    assert load_image(white).unique().tolist() == [255]


def test_cmyk_jpeg_keeps_its_color(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", Image.new("RGB", (16, 16), (250, 20, 20)).convert("CMYK"))
    red, green, blue = load_image(path)[:, 8, 8].tolist()
    assert red > 230
    assert green < 50
    assert blue < 50


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.gif", "a.webp", "a.tif", "a.bmp"])
def test_truncated_file_is_refused(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = save(tmp_path / name, Image.fromarray(noise))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=f"{name} cannot be decoded"):
        load_image(path)


@pytest.mark.parametrize("content", [b"", b"text", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_file_that_is_not_an_image_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.jpg cannot be decoded"):
        load_image(path)
    with pytest.raises(UserError, match=r"a\.jpg cannot be decoded"):
        image_size(path)


def test_missing_file_folder_and_float_image_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.png is missing"):
        load_image(tmp_path / "none.png")
    with pytest.raises(UserError, match="is a folder"):
        load_image(tmp_path)
    path = save(tmp_path / "a.tif", Image.fromarray(np.ones((2, 2), dtype=np.float32)))
    with pytest.raises(UserError, match="pixels are floats"):
        load_image(path)
    with pytest.raises(UserError, match="The image"):
        load_image(io.BytesIO(b"text"))


def test_png_that_is_damaged_in_the_middle_is_refused_without_exif(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    path = save(tmp_path / "a.png", Image.fromarray(pixels))
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = bytes(10) + content[len(content) // 2 + 10 :]
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be decoded"):
        load_image(path)


def save_tiff(path: Path, values: np.ndarray, bits: int = 16, tags: dict[int, int] | None = None) -> Path:
    """Write gray values as an uncompressed TIFF of ``bits`` a pixel, with more tags of 16 bits."""
    height, width = values.shape
    packed = "".join(f"{value:0{bits}b}" for value in values.ravel().tolist())
    data = int(packed, 2).to_bytes(len(packed) // 8, "big") if bits < 16 else values.astype("<u2").tobytes()
    entries = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 277: 1, 278: height, 279: len(data)} | (tags or {})
    entries[273] = 8 + 2 + 12 * (len(entries) + 1) + 4
    rows = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in sorted(entries.items()))
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(entries)) + rows + bytes(4) + data)
    return path


def save_rgb48(path: Path, values: np.ndarray) -> Path:
    """Write a PNG of 16 bits a channel, which Pillow cannot."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width, _ = values.shape
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + row.astype(">u2").tobytes() for row in values))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    return path


TWELVE_BITS = np.array([[0, 1024, 2048, 4095]], dtype=np.uint16)
SCALED = [[0, 64, 128, 255]]


@pytest.mark.parametrize(("bits", "tags"), [(12, {}), (16, {341: 4095}), (16, {281: 4095})])
def test_bits_that_a_tiff_file_states_are_used_in_full(tmp_path: Path, bits: int, tags: dict[int, int]) -> None:
    pixels, remarks = load_with_remarks(save_tiff(tmp_path / "a.tif", TWELVE_BITS, bits, tags))
    assert pixels[0].tolist() == SCALED
    assert not remarks


def test_the_largest_value_of_a_picture_is_not_taken_for_a_number_of_bits(tmp_path: Path) -> None:
    path = save_tiff(tmp_path / "a.tif", TWELVE_BITS, tags={281: 4000})
    assert load_image(path)[0].tolist() == [[0, 4, 8, 16]]


def test_dark_16_bit_images_are_remarked_and_the_environment_sets_their_bits(tmp_path: Path, monkeypatch) -> None:
    path = save(tmp_path / "a.png", Image.fromarray(TWELVE_BITS))
    bright = save(tmp_path / "b.png", Image.fromarray(TWELVE_BITS * 16))
    black = save(tmp_path / "c.png", Image.fromarray(TWELVE_BITS * 0))
    pixels, remarks = load_with_remarks(path)
    assert pixels[0].tolist() == [[0, 4, 8, 16]]
    assert [remark.kind for remark in remarks] == ["dark-16-bit"]
    assert "at most 4095 of 65535" in remarks[0].text
    assert not load_with_remarks(bright)[1]
    assert not load_with_remarks(black)[1]
    monkeypatch.setenv("DRFPN_IMAGE_BITS", "12")
    pixels, remarks = load_with_remarks(path)
    assert pixels[0].tolist() == SCALED
    assert not remarks
    assert load_image(bright)[0].tolist() == [[0, 255, 255, 255]]
    monkeypatch.setenv("DRFPN_IMAGE_BITS", "eight")
    with pytest.raises(UserError, match=r"DRFPN_IMAGE_BITS is 'eight', expected a number of bits, 9 to 16\.$"):
        load_image(path)


def test_dark_colors_of_16_bits_are_remarked_and_not_scaled(tmp_path: Path, monkeypatch) -> None:
    path = save_rgb48(tmp_path / "a.png", np.array([[[100, 4095, 300]]]))
    assert [remark.kind for remark in load_with_remarks(path)[1]] == ["dark-16-bit"]
    assert not load_with_remarks(save_rgb48(tmp_path / "b.png", np.array([[[100, 50000, 300]]])))[1]
    monkeypatch.setenv("DRFPN_IMAGE_BITS", "12")
    with pytest.raises(UserError, match="its colors have 16 bits"):
        load_image(path)


def test_integers_of_more_than_16_bits_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", Image.fromarray(np.array([[-1, 70000]], dtype=np.int32)))
    with pytest.raises(UserError, match="its pixels are integers from -1 to 70000"):
        load_image(path)
    small = save(tmp_path / "b.tif", Image.fromarray(np.array([[0, 65535]], dtype=np.int32)))
    assert load_image(small)[0].tolist() == [[0, 255]]


@pytest.mark.parametrize("suffix", ["gif", "png", "tif", "webp"])
def test_further_pages_are_remarked(tmp_path: Path, suffix: str) -> None:
    first, *others = (Image.new("RGB", (8, 8), (value, 0, 0)) for value in (250, 20, 90))
    pages = save(tmp_path / f"a.{suffix}", first, save_all=True, append_images=others)
    pixels, remarks = load_with_remarks(pages)
    assert pixels[0, 4, 4] > 200
    assert [remark.text for remark in remarks] == ["it has 3 pages or frames, of which only the first is used"]
    assert not load_with_remarks(save(tmp_path / f"b.{suffix}", first))[1]


def test_reduced_copies_in_a_tiff_and_previews_in_a_jpeg_are_no_pages(tmp_path: Path) -> None:
    first, second = (Image.new("RGB", (size, size), "red") for size in (8, 4))
    second.encoderinfo = {"tiffinfo": {254: 1}}
    assert not load_with_remarks(save(tmp_path / "a.tif", first, save_all=True, append_images=[second]))[1]
    assert not load_with_remarks(save(tmp_path / "a.mpo", first, save_all=True, append_images=[second]))[1]


def test_the_limit_of_pixels_is_set_by_the_environment(tmp_path: Path, monkeypatch) -> None:
    path = save(tmp_path / "a.png", Image.fromarray(gradient()))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)  # 54 pixels are more than twice as many
    for read in (load_image, image_size):
        with pytest.raises(UserError, match=r"more than 40 pixels.*DRFPN_MAX_IMAGE_PIXELS to a larger number"):
            read(path)
    monkeypatch.setenv("DRFPN_MAX_IMAGE_PIXELS", "54")
    torch.testing.assert_close(load_image(path), as_chw(gradient()))
    monkeypatch.setenv("DRFPN_MAX_IMAGE_PIXELS", "53")
    with pytest.raises(UserError, match="more than 53 pixels"):
        load_image(path)
    monkeypatch.setenv("DRFPN_MAX_IMAGE_PIXELS", "many")
    with pytest.raises(UserError, match=r"DRFPN_MAX_IMAGE_PIXELS is 'many', expected a number of pixels\.$"):
        load_image(path)


def test_a_format_that_needs_a_package_is_named_with_it(tmp_path: Path) -> None:
    path = tmp_path / "a.jxl"
    path.write_bytes(b"\xff\x0a")
    with pytest.raises(UserError, match=r"'\.jxl' needs a package; 'pip install pillow-jxl-plugin' installs it"):
        load_image(path)


@pytest.mark.parametrize(
    ("suffix", "format"),
    [("jfif", "JPEG"), ("jpe", "JPEG"), ("tga", "TGA"), ("pnm", "PPM"), ("jp2", "JPEG2000"), ("avif", "AVIF")],
)
def test_other_suffixes_are_read(tmp_path: Path, suffix: str, format: str) -> None:
    codec = {"JPEG2000": "jpg_2000", "AVIF": "avif"}.get(format)
    if codec is not None and not features.check(codec):
        pytest.skip(f"this Pillow has no {format}")
    path = save(tmp_path / f"a.{suffix}", Image.new("RGB", (16, 16), "red"), format=format)
    assert load_image(path).shape == (3, 16, 16)


def test_formats_that_start_programs_are_not_opened_under_another_name(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.new("RGB", (8, 8)).save(path, format="EPS")
    with pytest.raises(UserError, match="it is not an image in a format that Pillow supports"):
        load_image(path)
