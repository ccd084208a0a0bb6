from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from drfpn.data import load_image
from drfpn.inference.images import UnreadableInputError, to_image_tensor
from drfpn.utils.errors import UserError


def rgb() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def with_exif(path: Path) -> Path:
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(rgb()).save(path, exif=exif)
    return path


def saved(path: Path, image: Image.Image) -> Path:
    image.save(path)
    return path


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: with_exif(folder / "a.png"),
        lambda folder: with_exif(folder / "a.tif"),
        lambda folder: saved(folder / "a.png", Image.fromarray(rgb()[..., 0].astype(np.uint16) * 257)),
        lambda folder: saved(folder / "a.png", Image.fromarray(np.dstack([rgb(), rgb()[..., 0]]))),
        lambda folder: saved(folder / "a.gif", Image.fromarray(rgb()).convert("P")),
    ],
    ids=["exif", "exif in tiff", "16 bits", "transparency", "palette"],
)
def test_a_file_and_its_pillow_image_give_the_same(tmp_path: Path, write) -> None:
    file = write(tmp_path)
    with Image.open(file) as image:
        torch.testing.assert_close(to_image_tensor(image), load_image(file), rtol=0, atol=0)
    torch.testing.assert_close(to_image_tensor(file), load_image(file), rtol=0, atol=0)


def test_arrays_are_rgb_or_gray() -> None:
    array = rgb()
    expected = torch.from_numpy(array).permute(2, 0, 1)
    torch.testing.assert_close(to_image_tensor(array), expected)
    torch.testing.assert_close(to_image_tensor(array[..., ::-1]), expected.flip(0))
    torch.testing.assert_close(to_image_tensor(array[..., 0]), expected[:1].expand(3, -1, -1))
    torch.testing.assert_close(to_image_tensor(array[..., :1]), expected[:1].expand(3, -1, -1))


@pytest.mark.parametrize(
    ("array", "cure"),
    [
        (rgb() / 255, r"array of float64 \(5, 7, 3\).*give \(255 \* image\)\.round\(\)\.astype\('uint8'\)"),
        (rgb().astype(np.uint16)[..., 0], r"PIL\.Image\.fromarray\(image\)"),
        (rgb().transpose(2, 0, 1), r"give image\.transpose\(1, 2, 0\)"),
        (np.dstack([rgb(), rgb()[..., 0]]), r"PIL\.Image\.fromarray\(image\) of RGBA"),
        (rgb()[None], "one image a call"),
        (rgb()[..., :2], r"expected uint8 \(height, width, 3\) in RGB order"),
        (rgb()[:0], "without a side of 0"),
    ],
)
def test_other_arrays_are_refused_with_what_to_give(array: np.ndarray, cure: str) -> None:
    with pytest.raises(UserError, match=cure):
        to_image_tensor(array)


def test_other_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tensor of float32 \(3, 2, 2\)"):
        to_image_tensor(torch.zeros(3, 2, 2))
    with pytest.raises(UserError, match="its pixels are floats"):
        to_image_tensor(Image.new("F", (2, 2)))
    with pytest.raises(UserError, match="is a list"):
        to_image_tensor([[0]])
    with pytest.raises(UnreadableInputError, match="is missing"):
        to_image_tensor(tmp_path / "none.png")


def test_remarks_are_passed_on(tmp_path: Path) -> None:
    dark = saved(tmp_path / "a.png", Image.fromarray(np.array([[5, 4000]], dtype=np.uint16)))
    messages: list[str] = []
    to_image_tensor(dark, messages.append)
    with Image.open(dark) as image:
        to_image_tensor(image, messages.append)
    assert [message.partition(": its")[0] for message in messages] == [str(dark), "The image"]
