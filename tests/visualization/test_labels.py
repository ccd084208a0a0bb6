from itertools import combinations

import numpy as np
import pytest
import torch
from PIL import Image

from drfpn.visualization import draw_boxes, labels
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


def test_labels_cover_the_fewest_pixels_that_the_positions_around_their_box_allow() -> None:
    size = (200, 150)
    placed = write_labels(Image.new("RGB", size), at_random(60, *size))
    assert len(placed) == 60
    others: list[tuple[int, int, int, int]] = []
    for label, rectangle in zip(at_random(60, *size), placed, strict=True):
        width, height = rectangle[2] - rectangle[0], rectangle[3] - rectangle[1]
        x1, y1, x2, y2 = label.box
        lefts, tops = (x1, x2 - width, x2, x1 - width), (y1 - height, y2, y1, y2 - height)
        around = [
            (lefts[i], tops[j])
            for i, j in ((0, 0), (0, 1), (0, 2), (1, 3), (1, 0), (1, 1), (0, 3), (1, 2), (2, 2), (3, 2))
        ]
        corners = [(round(min(max(x, 0), 200 - width)), round(min(max(y, 0), 150 - height))) for x, y in around]
        covered = [sum(intersection((x, y, x + width, y + height), other) for other in others) for x, y in corners]
        assert sum(intersection(rectangle, other) for other in others) == min(covered)
        others.append(rectangle)


def intersection(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> int:
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def test_the_work_for_a_label_does_not_grow_with_their_number(monkeypatch) -> None:
    pixels: list[int] = []

    def count(occupied: np.ndarray, rectangle: tuple[int, int, int, int]) -> int:
        pixels.append((rectangle[2] - rectangle[0]) * (rectangle[3] - rectangle[1]))
        return count_covered(occupied, rectangle)

    count_covered = labels._count_covered
    monkeypatch.setattr(labels, "_count_covered", count)
    for number in (100, 400):
        pixels.clear()
        write_labels(Image.new("RGB", (320, 240)), [Label("a", (9, 9, 20, 20), "#0072B2")] * number)
        assert len(pixels) <= 10 * number
        assert sum(pixels) <= 10 * number * 1000


def test_a_long_name_is_cut_in_few_steps(monkeypatch) -> None:
    class CountingFont:
        calls = 0

        def getlength(self, text: str) -> float:
            self.calls += 1
            return 2.5 * len(text)

    font = CountingFont()
    assert labels._truncate("a" * 10_000, font, 100) == "a" * 37 + "..."
    assert labels._truncate("a" * 10, font, 1) == "..."
    assert labels._truncate("a" * 10, font, 25) == "a" * 10
    assert font.calls < 50
