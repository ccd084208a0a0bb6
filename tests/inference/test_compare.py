import pytest
import torch
from PIL import Image

from drfpn.inference import compare, draw_comparison
from drfpn.utils.errors import UserError

BOX, MOVED, FAR = [10, 10, 30, 30], [12, 10, 32, 30], [60, 60, 90, 90]  # IoU of the first two: 18 / 22


def test_boxes_of_one_class_and_place_are_found_by_both(detections) -> None:
    left = detections([BOX, FAR], [1, 2], [0.9, 0.8])
    right = detections([MOVED, BOX, FAR], [1, 2, 2], [0.7, 0.6, 0.5])
    found = compare(left, right)
    assert found.pairs.tolist() == [[0, 0], [1, 2]]
    assert found.counts() == {"both": 2, "only_left": 0, "only_right": 1}
    assert found.only_right().tolist() == [False, True, False]


def test_an_object_has_one_partner_and_the_best_score_chooses_first(detections) -> None:
    left = detections([MOVED, BOX], [1, 1], [0.9, 0.8])
    right = detections([BOX], [1], [0.7])
    assert compare(left, right).pairs.tolist() == [[0, 0]]
    assert compare(right, left).pairs.tolist() == [[0, 0]]
    surer = detections([BOX], [1], [0.95])  # now it is the right one that chooses, by overlap
    assert compare(left, surer).pairs.tolist() == [[1, 0]]


def test_an_overlap_of_one_half_is_enough_and_less_is_not(detections) -> None:
    left = detections([[0, 0, 20, 20]], [1], [0.9])
    assert compare(left, detections([[0, 0, 20, 10]], [1], [0.9])).counts()["both"] == 1
    assert compare(left, detections([[0, 0, 20, 9.9]], [1], [0.9])).counts()["both"] == 0


def test_classes_are_the_same_by_name(detections) -> None:
    left = detections([BOX], [1], [0.9], classes=("cat", "dog"))
    right = detections([BOX], [2], [0.9], classes=("bird", "cat"))
    assert compare(left, right).counts()["both"] == 1
    with pytest.raises(UserError, match="no class in common: cat, dog; and bird"):
        compare(left, detections([BOX], [1], [0.9], classes=("bird",)))


def test_nothing_found_is_compared_too(detections) -> None:
    none, one = detections([], [], []), detections([BOX], [1], [0.9])
    assert compare(none, none).counts() == {"both": 0, "only_left": 0, "only_right": 0}
    assert compare(none, one).counts() == {"both": 0, "only_left": 0, "only_right": 1}


def test_only_what_one_found_is_coloured(detections) -> None:
    left = detections([BOX, FAR], [1, 1], [0.9, 0.8])
    found = compare(left, detections([BOX], [1], [0.9]))
    image = Image.new("RGB", (120, 100))
    picture = draw_comparison(found, image, ("one", "two"))
    alone = left.plot(image, marked=found.only_left())
    blue = torch.tensor([0x00, 0x72, 0xB2], dtype=torch.uint8)

    def has_blue(part: Image.Image) -> bool:
        pixels = torch.frombuffer(bytearray(part.tobytes()), dtype=torch.uint8).view(-1, 3)
        return bool((pixels == blue).all(1).any())

    assert has_blue(picture.crop((0, 0, alone.width, picture.height)))
    assert not has_blue(picture.crop((alone.width, 0, picture.width, picture.height)))
    assert picture.width >= 2 * alone.width
    assert picture.height > alone.height
