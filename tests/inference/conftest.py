from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from drfpn.inference import Detections, Predictor


class BrightRectangleDetector:
    """A detector of one bright rectangle, whose box it computes from the pixels."""

    def __init__(self, label: int = 1, score: float = 0.75) -> None:
        self.label = label
        self.score = score
        self.calls = 0

    def detect(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        self.calls += len(images)
        outputs = []
        for image in images:
            y, x = torch.nonzero(image.float().mean(0) > 128, as_tuple=True)
            boxes = [[x.min(), y.min(), x.max() + 1, y.max() + 1]] if len(x) else []
            outputs.append(
                {
                    "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
                    "labels": torch.full((len(boxes),), self.label),
                    "scores": torch.full((len(boxes),), self.score),
                }
            )
        return outputs


@pytest.fixture
def bright() -> Callable[..., Predictor]:
    def build(name: str = "one", **options: Any) -> Predictor:
        return Predictor(BrightRectangleDetector(**options), ("cat", "dog, brown"), (7, 9), name=name)

    return build


@pytest.fixture
def detections() -> Callable[..., Detections]:
    def build(
        boxes: Sequence[Sequence[float]],
        labels: Sequence[int],
        scores: Sequence[float],
        classes: tuple[str, ...] = ("cat", "dog"),
        **options: Any,
    ) -> Detections:
        return Detections(
            torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            torch.tensor(labels, dtype=torch.int64),
            torch.tensor(scores),
            (100, 120),
            classes,
            tuple(10 * (k + 1) for k in range(len(classes))),
            **options,
        )

    return build


@pytest.fixture
def write_video() -> Callable[..., list[int]]:
    """Write a black video with a white square of 16 px that moves by 6 px a frame; return its left edges."""
    av = pytest.importorskip("av")

    def write(file: Path, frames: int = 7, width: int = 96, height: int = 64, rate: Any = 12) -> list[int]:
        lefts = [6 * number for number in range(frames)]
        with av.open(str(file), "w") as container:
            stream = container.add_stream("mpeg4", rate=rate)
            stream.width, stream.height, stream.pix_fmt, stream.bit_rate = width, height, "yuv420p", 2_000_000
            for left in lefts:
                pixels = np.zeros((height, width, 3), dtype=np.uint8)
                pixels[8:24, left : left + 16] = 255
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode(None))
        return lefts

    return write
