import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close
from torchvision.transforms.v2.functional import to_pil_image

from drfpn.inference import Predictor, predict_files
from drfpn.inference.tiling import TiledDetector, make_tiles, merge_tiles
from drfpn.utils.errors import UsageError

TILE = 100


class ValueDetector:
    """A detector of the rectangles of an image: each has a value of its own from 10 on, which is its class.

    Of a whole image that is larger than a tile it finds only rectangles of at least ``min_side`` pixels.
    """

    def __init__(self, min_side: int = 0) -> None:
        self.min_side = min_side
        self.batches: list[list[tuple[int, int]]] = []

    def eval(self) -> "ValueDetector":
        return self

    def detect(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        self.batches.append([tuple(image.shape[-2:]) for image in images])
        return [self._detect(image[0]) for image in images]

    def _detect(self, image: Tensor) -> dict[str, Tensor]:
        boxes, labels = [], []
        for value in image.unique().tolist():
            y, x = torch.nonzero(image == value, as_tuple=True)
            box = [x.min(), y.min(), x.max() + 1, y.max() + 1]
            whole = max(image.shape) > TILE
            if value >= 10 and not (whole and max(box[2] - box[0], box[3] - box[1]) < self.min_side):
                boxes.append(box)
                labels.append(value)
        count = len(boxes)
        return {
            "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            "labels": torch.tensor(labels, dtype=torch.int64),
            "scores": torch.linspace(0.9, 0.5, count),
            "crops": torch.ones(count, 1, 2, 2) * torch.tensor(labels).reshape(-1, 1, 1, 1) / 255,
        }


def draw(*boxes: tuple[int, int, int, int], size: tuple[int, int] = (210, 340)) -> Tensor:
    image = torch.zeros(3, *size, dtype=torch.uint8)
    for number, (x1, y1, x2, y2) in enumerate(boxes):
        image[:, y1:y2, x1:x2] = 10 + number
    return image


def as_sets(output: dict[str, Tensor]) -> list[tuple[int, list[float]]]:
    return sorted(zip(output["labels"].tolist(), output["boxes"].tolist(), strict=True))


@given(height=st.integers(1, 400), width=st.integers(1, 400), tile=st.integers(32, 200), overlap=st.floats(0, 0.9))
@settings(max_examples=60, deadline=None)
def test_tiles_cover_the_image_and_overlap_as_asked(height, width, tile, overlap) -> None:
    tiles = make_tiles(height, width, tile, overlap)
    covered = torch.zeros(height, width, dtype=torch.bool)
    for x1, y1, x2, y2 in tiles.tolist():
        assert 0 <= x1 < x2 <= width
        assert 0 <= y1 < y2 <= height
        assert (x2 - x1, y2 - y1) == (min(tile, width), min(tile, height))
        covered[y1:y2, x1:x2] = True
    assert covered.all()
    for side in (0, 1):
        starts = tiles[:, side].unique()
        assert (starts[1:] - starts[:-1] <= max(1, tile * (1 - overlap)) + 1).all()


def test_every_object_is_found_once_with_its_whole_box() -> None:
    small = [(x, y, x + 18, y + 18) for y in range(4, 190, 28) for x in range(3, 320, 27)]
    assert 60 < len(small) < 200
    detector = ValueDetector(min_side=60)
    output = TiledDetector(detector, TILE, 0.3).detect([draw(*small)])[0]
    assert as_sets(output) == [(10 + number, [float(v) for v in box]) for number, box in enumerate(small)]
    assert_close(output["crops"][:, 0, 0, 0], output["labels"] / 255)
    assert (output["scores"].diff() <= 0).all()


@pytest.mark.parametrize("left", range(55, 105, 5))
def test_an_object_across_a_border_is_found_once(left) -> None:
    box = (left, 30, left + 25, 55)
    output = TiledDetector(ValueDetector(min_side=60), TILE, 0.3).detect([draw(box)])[0]
    assert as_sets(output) == [(10, [float(v) for v in box])]


def test_an_object_larger_than_a_tile_is_found_in_the_whole_image() -> None:
    box = (20, 15, 300, 190)
    output = TiledDetector(ValueDetector(min_side=60), TILE, 0.2).detect([draw(box)])[0]
    assert as_sets(output) == [(10, [float(v) for v in box])]
    pieces = TiledDetector(ValueDetector(), TILE, 0.2, full=False).detect([draw(box)])[0]
    assert len(pieces["boxes"]) > 4


def test_neighbors_of_one_class_stay_apart_where_a_larger_one_is_beside() -> None:
    tiles = make_tiles(100, 180, TILE, 0.2)
    first, second = tiles.tolist()
    boxes = [[10, 10, 60, 90], [20, 40, 40, 90], [85, 10, 100, 60], [85, 10, 130, 60], [80, 20, 100, 50]]
    sources = [first, first, first, second, first]
    detections = {
        "boxes": torch.tensor(boxes, dtype=torch.float32),
        "labels": torch.tensor([1, 1, 1, 1, 2]),
        "scores": torch.tensor([0.6, 0.9, 0.95, 0.5, 0.7]),
    }
    keep = merge_tiles(detections, torch.tensor(sources), tiles, margin=1.0)
    # a child in front of a parent; a cut piece with a higher score than the whole; a cut piece that nothing covers
    # but that the second tile, which begins at x = 80, does not contain with a margin
    assert keep.tolist() == [1, 4, 0, 3]


@pytest.mark.parametrize("sizes", [[(60, 90), (100, 100)], [(60, 90), (210, 130), (100, 100)]])
def test_images_within_one_tile_are_detected_together_as_without_tiles(sizes) -> None:
    images = [draw((5, 5, 30, 40), (20, 10, 50, 50), size=size) for size in sizes]
    small = [size for size in sizes if max(size) <= TILE]
    detector = ValueDetector()
    outputs = TiledDetector(detector, TILE).detect(images)
    assert detector.batches[0] == small
    for image, output, size in zip(images, outputs, sizes, strict=True):
        if size in small:
            plain = ValueDetector().detect([image])[0]
            assert all(torch.equal(output[key], plain[key]) for key in plain)
    assert (len(detector.batches) > 1) == (len(small) < len(sizes))


def test_tiles_are_batched_and_counted() -> None:
    detector = ValueDetector()
    tiled = TiledDetector(detector, TILE, 0.5)
    seen: list[tuple[int, int]] = []
    tiled.on_batch = lambda done, count: seen.append((done, count))
    output = tiled.detect([draw(size=(210, 340))])[0]
    assert len(output["boxes"]) == 0
    assert output["crops"].shape == (0, 1, 2, 2)
    count = len(make_tiles(210, 340, TILE, 0.5))
    assert [len(batch) for batch in detector.batches] == [8] * (count // 8) + [count % 8] * (count % 8 > 0) + [1]
    assert seen[-1] == (count, count)


@pytest.mark.parametrize(("tile", "overlap", "message"), [(31, 0.2, "`tile` is 31"), (64, 0.95, "`overlap` is 0.95")])
def test_tiles_and_overlaps_out_of_range_are_refused(tile, overlap, message) -> None:
    with pytest.raises(UsageError, match=message):
        TiledDetector(ValueDetector(), tile, overlap)


def test_files_are_predicted_in_tiles_in_pixels_of_the_image(tmp_path: Path) -> None:
    boxes = [(3, 5, 20, 25), (90, 90, 115, 112), (300, 180, 330, 200)]
    to_pil_image(draw(*boxes)).save(tmp_path / "a.png")
    names = tuple(str(k) for k in range(255))
    predictor = Predictor(TiledDetector(ValueDetector(60), TILE, 0.3), names, tuple(range(1, 256)))
    predict_files(predictor, [tmp_path / "a.png"], tmp_path / "out")
    results = json.loads((tmp_path / "out/results.json").read_text())
    found = sorted((row["category_id"], row["bbox"]) for row in results)
    assert found == [(10 + k, [x1, y1, x2 - x1, y2 - y1]) for k, (x1, y1, x2, y2) in enumerate(boxes)]
