import pytest
import torch
from PIL import Image

from drfpn.inference import compare, draw_comparison
from drfpn.utils.errors import UserError

BOX, MOVED, FAR = [10, 10, 30, 30], [12, 10, 32, 30], [60, 60, 90, 90]  # IoU of the first two: 18 / 22


def test_overlapping_boxes_of_the_same_class_match(detections) -> None:
    first = detections([BOX, FAR], [1, 2], [0.9, 0.8])
    second = detections([MOVED, BOX, FAR], [1, 2, 2], [0.7, 0.6, 0.5])
    comparison = compare(first, second)
    assert comparison.matches.tolist() == [[0, 0], [1, 2]]
    assert comparison.counts() == {"both": 2, "only_first": 0, "only_second": 1}
    assert comparison.only_second().tolist() == [False, True, False]


def test_matches_are_one_to_one_in_the_order_of_scores(detections) -> None:
    first = detections([MOVED, BOX], [1, 1], [0.9, 0.8])
    second = detections([BOX], [1], [0.7])
    assert compare(first, second).matches.tolist() == [[0, 0]]
    assert compare(second, first).matches.tolist() == [[0, 0]]
    higher = detections([BOX], [1], [0.95])  # now it is matched before those of the first, by IoU
    assert compare(first, higher).matches.tolist() == [[1, 0]]


def test_an_iou_of_one_half_matches_and_less_does_not(detections) -> None:
    first = detections([[0, 0, 20, 20]], [1], [0.9])
    assert compare(first, detections([[0, 0, 20, 10]], [1], [0.9])).counts()["both"] == 1
    assert compare(first, detections([[0, 0, 20, 9.9]], [1], [0.9])).counts()["both"] == 0


def test_classes_are_the_same_by_name(detections) -> None:
    first = detections([BOX], [1], [0.9], classes=("cat", "dog"))
    second = detections([BOX], [2], [0.9], classes=("bird", "cat"))
    assert compare(first, second).counts()["both"] == 1
    with pytest.raises(UserError, match="no class in common: cat, dog; and bird"):
        compare(first, detections([BOX], [1], [0.9], classes=("bird",)))


def test_images_without_detections_are_compared_too(detections) -> None:
    none, one = detections([], [], []), detections([BOX], [1], [0.9])
    assert compare(none, none).counts() == {"both": 0, "only_first": 0, "only_second": 0}
    assert compare(none, one).counts() == {"both": 0, "only_first": 0, "only_second": 1}


def test_only_unmatched_detections_are_in_color(detections) -> None:
    first = detections([BOX, FAR], [1, 1], [0.9, 0.8])
    comparison = compare(first, detections([BOX], [1], [0.9]))
    image = Image.new("RGB", (120, 100))
    picture = draw_comparison(comparison, image, ("one", "two"))
    alone = first.plot(image, highlight=comparison.only_first())
    blue = torch.tensor([0x00, 0x72, 0xB2], dtype=torch.uint8)

    def has_blue(part: Image.Image) -> bool:
        pixels = torch.frombuffer(bytearray(part.tobytes()), dtype=torch.uint8).view(-1, 3)
        return bool((pixels == blue).all(1).any())

    assert has_blue(picture.crop((0, 0, alone.width, picture.height)))
    assert not has_blue(picture.crop((alone.width, 0, picture.width, picture.height)))
    assert picture.width >= 2 * alone.width
    assert picture.height > alone.height
