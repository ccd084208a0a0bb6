import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from drfpn.data.image_io import image_size, load_image
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
