"""Detection in overlapping tiles: small objects of a large image are lost where it is resized as a whole."""

from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from drfpn.detectors.base import CanDetect
from drfpn.utils.errors import UsageError

DEFAULT_OVERLAP = 0.2
"""Part of a tile's side that it has in common with the next tile, at least."""

_BATCH_SIZE = 8
_EDGE_MARGIN = 0.01  # part of a tile's side: regressed boxes of objects that a tile cuts end about at its border
_COVERED = 0.7  # part of a cut box inside of a larger one from which both are of one object
_NMS_IOU = 0.5

Output = dict[str, Tensor]


class TiledDetector:
    """A detector that runs on overlapping tiles of an image, and on the whole image.

    Boxes at a border inside of the image are of objects that the tile cuts. They are left out where another tile
    contains them, or where a larger box of the same class covers them; then the detections of all tiles are merged by
    non-maximum suppression within each class. An image that fits into one tile is detected as without tiles.

    Args:
        model: the detector, in evaluation mode.
        tile: side of a tile, pixels, at least 32.
        overlap: part of the side that neighbors have in common, 0 to 0.9. An object is found as a whole if it is
            smaller than the overlap in pixels, or in the whole image.
        full: whether to run on the whole image too, for large objects.

    Raises:
        UsageError: ``tile`` or ``overlap`` is out of range.
    """

    def __init__(self, model: CanDetect, tile: int, overlap: float = DEFAULT_OVERLAP, *, full: bool = True) -> None:
        if tile < 32:
            raise UsageError(f"`tile` is {tile}, expected at least 32 pixels.")
        if not 0 <= overlap <= 0.9:
            raise UsageError(f"`overlap` is {overlap:g}, expected a part of the tile's side from 0 to 0.9.")
        self.model = model
        self.tile = tile
        self.overlap = overlap
        self.full = full
        self.on_batch: Callable[[int, int], None] | None = None
        """Called with the number of finished tiles of an image and the number of all, after each batch of tiles."""

    def eval(self) -> Self:
        """Set evaluation mode."""
        self.model.eval()
        return self

    def detect(self, images: Sequence[Tensor]) -> list[Output]:
        """Detect objects in each image.

        Args:
            images: (3, H, W) each, uint8 or float in [0, 1].

        Returns:
            As of :meth:`drfpn.detectors.base.Detector.detect`; of images that are tiled, on the CPU.
        """
        small = [i for i, image in enumerate(images) if max(image.shape[-2:]) <= self.tile]
        outputs = dict(zip(small, self.model.detect([images[i] for i in small]), strict=True)) if small else {}
        return [outputs[i] if i in outputs else self._detect_tiled(image) for i, image in enumerate(images)]

    def _detect_tiled(self, image: Tensor) -> Output:
        height, width = image.shape[-2:]
        tiles = make_tiles(height, width, self.tile, self.overlap)
        outputs: list[Output] = []
        for start in range(0, len(tiles), _BATCH_SIZE):
            batch = tiles[start : start + _BATCH_SIZE].tolist()
            outputs += self.model.detect([image[:, y1:y2, x1:x2] for x1, y1, x2, y2 in batch])
            if self.on_batch is not None:
                self.on_batch(start + len(batch), len(tiles))
        if self.full:
            outputs += self.model.detect([image])
        windows = torch.cat([tiles, torch.tensor([[0, 0, width, height]])])[: len(outputs)]
        outputs = [{key: value.cpu() for key, value in output.items()} for output in outputs]
        for output, window in zip(outputs, windows, strict=True):
            output["boxes"] = output["boxes"] + window[:2].repeat(2)
        merged = {key: torch.cat([output[key] for output in outputs]) for key in outputs[0]}
        sources = windows.repeat_interleave(torch.tensor([len(output["boxes"]) for output in outputs]), dim=0)
        keep = merge_tiles(merged, sources, tiles, margin=max(1.0, _EDGE_MARGIN * self.tile))
        return {key: value[keep] for key, value in merged.items()}


def make_tiles(height: int, width: int, tile: int, overlap: float) -> Tensor:
    """Return the fewest tiles with that overlap, at equal distances, row by row.

    Args:
        height: height of the image, pixels.
        width: width of the image, pixels.
        tile: side of a tile, pixels; tiles are smaller only where the image is.
        overlap: part of the side that neighbors have in common, at least.

    Returns:
        (T, 4) int64: x1, y1, x2, y2 in pixels.
    """
    return torch.tensor(
        [
            [x, y, min(x + tile, width), min(y + tile, height)]
            for y in _starts(height, tile, overlap)
            for x in _starts(width, tile, overlap)
        ]
    )


def _starts(length: int, tile: int, overlap: float) -> list[int]:
    if length <= tile:
        return [0]
    stride = max(1, int(tile * (1 - overlap)))
    steps = -(-(length - tile) // stride)
    return [round(step * (length - tile) / steps) for step in range(steps + 1)]


def merge_tiles(detections: Output, sources: Tensor, tiles: Tensor, *, margin: float) -> Tensor:
    """Return the indices of the detections of all tiles that remain, one for each object, sorted by score.

    Args:
        detections: "boxes" (D, 4), "labels" (D,) and "scores" (D,), boxes in pixels of the image.
        sources: (D, 4), the tile of each detection, or the whole image: x1, y1, x2, y2.
        tiles: (T, 4), all tiles; together they cover the image.
        margin: distance to a border, pixels, within which a box ends at it.
    """
    boxes, labels, scores = detections["boxes"], detections["labels"], detections["scores"]
    image_size = tiles.amax(dim=0)[2:]
    cut = _is_cut(boxes, sources, image_size, margin)
    keep = ~cut
    for index in cut.nonzero()[:, 0].split(1024):  # in parts, since a large image may have many
        seen_whole = torch.zeros(len(index), dtype=torch.bool)
        for tile in tiles:
            contained = _contains(tile, boxes[index])
            seen_whole |= contained & ~_is_cut(boxes[index], tile.expand(len(index), 4), image_size, margin)
        keep[index] = ~seen_whole
    keep &= ~_is_covered(boxes, labels, cut & keep, keep)
    index = keep.nonzero()[:, 0]
    return index[batched_nms(boxes[index], scores[index], labels[index], _NMS_IOU)]


def _is_cut(boxes: Tensor, tiles: Tensor, image_size: Tensor, margin: float) -> Tensor:
    """Return whether each box (D, 4) ends at a border of its tile (D, 4) that is not one of the image."""
    inner = torch.cat([tiles[:, :2] > 0, tiles[:, 2:] < image_size], dim=1)
    return (inner & ((boxes - tiles).abs() <= margin)).any(dim=1)


def _contains(tile: Tensor, boxes: Tensor) -> Tensor:
    return (boxes[:, :2] >= tile[:2]).all(dim=1) & (boxes[:, 2:] <= tile[2:]).all(dim=1)


def _is_covered(boxes: Tensor, labels: Tensor, cut: Tensor, keep: Tensor) -> Tensor:
    """Return which of the cut boxes lie in a larger one of the same class that is kept."""
    covered = torch.zeros_like(cut)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    for label in labels[cut].unique():
        others = (keep & (labels == label)).nonzero()[:, 0]
        for index in (cut & (labels == label)).nonzero()[:, 0].split(1024):
            corner = torch.maximum(boxes[index, None, :2], boxes[None, others, :2])
            sides = (torch.minimum(boxes[index, None, 2:], boxes[None, others, 2:]) - corner).clamp(min=0)
            inside = sides.prod(dim=2) >= _COVERED * areas[index, None]
            covered[index] = (inside & (areas[others] > areas[index, None])).any(dim=1)
    return covered
