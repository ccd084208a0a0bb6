from itertools import combinations

import numpy as np
import pytest
import torch
from PIL import Image

from drfpn.visualization import draw_boxes
from drfpn.visualization.boxes import PALETTE
from drfpn.visualization.labels import Label, _text_color, write_labels


def at_random(count: int, width: int, height: int, seed: int = 0) -> list[Label]:
    generator = np.random.default_rng(seed)
    labels = []
    for k in range(count):
        x, y = np.sort(generator.uniform(0, width, 2)), np.sort(generator.uniform(0, height, 2))
        labels.append(Label(f"class {k} 0.{k:02d}", (x[0], y[0], x[1], y[1]), PALETTE[k % len(PALETTE)]))
    return labels


@pytest.mark.parametrize("size", [(64, 48), (640, 480), (3000, 40), (40, 3000), (6000, 4000), (8, 8)])
def test_labels_never_leave_the_picture(size) -> None:
    for left, top, right, bottom in write_labels(Image.new("RGB", size), at_random(30, *size)):
        assert 0 <= left < right <= size[0]
        assert 0 <= top < bottom <= size[1]


def test_labels_do_not_cover_each_other_where_there_is_room() -> None:
    boxes = [(100 + k, 100 + k, 200 + k, 200 + k) for k in range(4)]
    rectangles = write_labels(Image.new("RGB", (480, 480)), [Label("cat", box, "#0072B2") for box in boxes])
    assert len(rectangles) == 4
    for a, b in combinations(rectangles, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_in_a_crowd_all_are_named_but_those_that_need_not_be() -> None:
    box = (20, 20, 60, 40)
    crowd = [Label("cat", box, "#0072B2") for _ in range(40)]
    assert len(write_labels(Image.new("RGB", (96, 64)), crowd)) == 40
    others = [Label("cat", box, "#808080", required=False) for _ in range(40)]
    assert len(write_labels(Image.new("RGB", (96, 64)), crowd[:4] + others)) < 44


def test_letters_grow_with_the_picture() -> None:
    heights = []
    for width in (640, 1280, 6000):
        label = Label("cat", (width / 3, width / 3, width / 2, width / 2), "#0072B2")
        (rectangle,) = write_labels(Image.new("RGB", (width, width)), [label])
        heights.append((rectangle[3] - rectangle[1]) / width)
    assert max(heights) < 1.25 * min(heights)


@pytest.mark.parametrize("color", [*PALETTE, "#808080"])
def test_text_can_be_read_on_every_background(color) -> None:
    def luminance(name: str) -> float:
        values = np.array(Image.new("RGB", (1, 1), name).getpixel((0, 0))) / 255
        return float(
            np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722)
        )

    dark, light = sorted((luminance(color), luminance(_text_color(color))))
    assert (light + 0.05) / (dark + 0.05) >= 4.5  # W3C's contrast for text


def test_a_tiny_object_is_not_covered_by_its_line() -> None:
    image = torch.full((3, 3000, 4000), 100, dtype=torch.uint8)
    image[:, 1500:1510, 2000:2010] = torch.tensor([250, 10, 10])[:, None, None]
    picture = draw_boxes(image, torch.tensor([[2000.0, 1500, 2010, 1510]]), torch.tensor([1]), ["cat"])
    assert picture.getpixel((2005, 1505)) == (250, 10, 10)


def test_a_strip_does_not_become_a_poster() -> None:
    nothing = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), ["cat"]
    assert draw_boxes(torch.zeros(3, 20, 2000, dtype=torch.uint8), *nothing).size == (2000, 20)
    assert draw_boxes(torch.zeros(3, 20, 400, dtype=torch.uint8), *nothing).size == (1600, 80)


def test_boxes_that_are_not_highlighted_are_gray() -> None:
    boxes = torch.tensor([[50.0, 50, 200, 200], [250, 250, 400, 400]])
    picture = draw_boxes(
        torch.zeros(3, 480, 480, dtype=torch.uint8),
        boxes,
        torch.tensor([1, 1]),
        ["cat"],
        highlight=torch.tensor([True, False]),
    )
    assert picture.getpixel((125, 200)) == (0x00, 0x72, 0xB2)
    assert picture.getpixel((325, 400)) == (0x80, 0x80, 0x80)
