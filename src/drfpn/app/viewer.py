"""What the page shows, without the page: models by name, an image at a time, pictures and numbers of it."""

import io
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

from PIL import Image
from torch import Tensor

from drfpn.data import load_image
from drfpn.data.image_io import image_size
from drfpn.inference import Detections, Predictor, compare, draw_comparison
from drfpn.training.checkpoint import Card
from drfpn.utils.errors import UserError
from drfpn.visualization import feature_maps, side_by_side
from drfpn.visualization.diagnostics import Verdict, judge_gates, judge_offsets, judge_weights
from drfpn.visualization.hooks import Inspection, inspect_pyramid

MAX_PIXELS = 25_000_000
"""Larger images are refused before they are decoded."""


class Viewer:
    """Some detectors, and what they make of an image.

    Several visitors may ask at once: a detector looks at one image at a time, and nothing of an image is kept here.

    Args:
        predictors: detectors by the name that the page gives them.
    """

    def __init__(self, predictors: Mapping[str, Predictor]) -> None:
        self.predictors = dict(predictors)
        self._locks = {name: Lock() for name in predictors}

    def read(self, file: str | os.PathLike[str]) -> Tensor:
        """Decode an image file to uint8 (3, H, W).

        Raises:
            UserError: not an image, damaged, or of more than ``MAX_PIXELS``; it names the file without its folder.
        """
        path = Path(file)
        try:
            height, width = image_size(path)
            if height * width > MAX_PIXELS:
                raise UserError(
                    f"{path} has {width} x {height} = {height * width / 1e6:.0f} million pixels, "
                    f"but at most {MAX_PIXELS // 1_000_000} million are taken: make it smaller first."
                )
            return load_image(path)
        except UserError as error:  # the folder is the server's own business
            raise UserError(str(error).replace(str(path), path.name)) from error

    def detect(self, pixels: Tensor, name: str) -> Detections:
        """Return what the detector called ``name`` finds."""
        with self._locks[name]:
            return self.predictors[name](pixels)

    def inspect(self, pixels: Tensor, name: str) -> Inspection:
        """Return what flows inside of the pyramid of the detector called ``name``.

        Raises:
            UserError: as :func:`drfpn.visualization.hooks.inspect_pyramid`.
        """
        with self._locks[name]:  # it puts hooks on the model, which another image must not trigger
            return inspect_pyramid(self.predictors[name].model, pixels)


def features(found: Mapping[str, Inspection], *, mean: bool) -> Image.Image:
    """Draw each level as it leaves the pyramids: the mean over channels, or the most active one."""
    return _drawn(lambda file: feature_maps.draw_levels(found, file, mean=mean))


def offsets(found: Inspection, pixels: Tensor, name: str) -> tuple[Image.Image | None, list[str]]:
    """Draw SRB's offsets and weights, and tell whether they do anything; no picture where there is no SRB."""
    if not found.offsets and not found.weights:
        return None, [f"{name} has no spatial refinement block: there are no offsets to look at."]
    words = _words("offsets", judge_offsets(found)) + _words("weights", judge_weights(found))
    return _drawn(lambda file: feature_maps.draw_offsets(found, pixels, file)), words


def gates(found: Inspection, name: str) -> tuple[Image.Image | None, list[str]]:
    """Draw CRB's gates, and tell whether they do anything; no picture where there is no CRB."""
    if not found.gates:
        return None, [f"{name} has no channel refinement block: there are no gates to look at."]
    return _drawn(lambda file: feature_maps.draw_gates([found], file)), _words("gates", judge_gates([found]))


def picture(pixels: Tensor, found: Mapping[str, Detections], score: float) -> Image.Image:
    """Draw the detections of one detector, or of two side by side.

    Of two, what both found is grey, unless they know no class of the same name, so that nothing can be the same.
    """
    shown = {name: detections.above(score) for name, detections in found.items()}
    if len(shown) == 1:
        (only,) = shown.values()
        return only.plot(pixels)
    left, right = shown
    if not set(shown[left].classes) & set(shown[right].classes):
        return side_by_side([each.plot(pixels) for each in shown.values()], [left, right])
    return draw_comparison(compare(shown[left], shown[right]), pixels, (left, right))


def rows(found: Mapping[str, Detections], score: float) -> list[list[Any]]:
    """Return a row for each detection: detector, class, score, and the box in pixels."""
    table = []
    for name, detections in found.items():
        shown = detections.above(score)
        for label, value, box in zip(shown.names(), shown.scores.tolist(), shown.boxes.tolist(), strict=True):
            table.append([name, label, round(value, 3), *(round(side, 1) for side in box)])
    return table


def describe(cards: Mapping[str, Card]) -> str:
    """Return a line of Markdown on each detector: its model, its data, its AP and its classes."""
    lines = []
    for name, card in cards.items():
        measured = f", box AP {100 * card.metrics['AP']:.1f}" if "AP" in card.metrics else ""
        data = Path(card.config.data).name
        lines.append(
            f"- **{name}**: {card.config.model}, trained on {data} ({card.epoch} epochs{measured}); "
            f"knows {', '.join(card.classes)}"
        )
    return "\n".join(lines)


def coco(found: Mapping[str, Detections], score: float, image: str) -> dict[str, Any]:
    """Return the detections for a JSON file: COCO's results and categories, by detector."""
    return {
        "image": image,
        "score": score,
        "detectors": {
            name: {
                "categories": [
                    {"id": key, "name": label}
                    for key, label in zip(detections.category_ids, detections.classes, strict=True)
                ],
                "results": detections.above(score).to_coco(image_id=1),
            }
            for name, detections in found.items()
        },
    }


def _words(kind: str, verdicts: Sequence[Verdict]) -> list[str]:
    return [f"{kind} {verdict.pair}: {verdict.words}" for verdict in verdicts]


def _drawn(draw: Callable[[BinaryIO], None]) -> Image.Image:
    """Return what ``draw`` writes into a file."""
    stream = io.BytesIO()
    draw(stream)
    with Image.open(stream) as picture:
        return picture.convert("RGB")
