"""Comparison of two detectors on one image: matched detections, and those of one detector only."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.ops import box_iou

from drfpn.inference.detections import Detections
from drfpn.inference.images import ImageLike, to_image_tensor
from drfpn.utils.errors import UserError
from drfpn.visualization import side_by_side
from drfpn.visualization.fonts import load_font

MIN_IOU = 0.5
"""IoU from which two boxes of the same class can be matched."""


@dataclass(frozen=True)
class Comparison:
    """Matched detections of two detectors in one image."""

    first: Detections
    """Detections of the first detector, D1 of them."""
    second: Detections
    """Detections of the second detector, D2 of them."""
    matches: Tensor
    """(P, 2), int64: index into ``first`` and index into ``second`` of each matched pair."""

    def only_first(self) -> Tensor:
        """Return a mask (D1,), bool, of the detections of the first detector without a match."""
        return _unmatched(self.matches[:, 0], len(self.first))

    def only_second(self) -> Tensor:
        """Return a mask (D2,), bool, of the detections of the second detector without a match."""
        return _unmatched(self.matches[:, 1], len(self.second))

    def counts(self) -> dict[str, int]:
        """Return the numbers of matches (``both``) and of unmatched detections (``only_first``, ``only_second``)."""
        both = len(self.matches)
        return {"both": both, "only_first": len(self.first) - both, "only_second": len(self.second) - both}


def _unmatched(matched: Tensor, count: int) -> Tensor:
    mask = torch.ones(count, dtype=torch.bool)
    mask[matched] = False
    return mask


def compare(first: Detections, second: Detections) -> Comparison:
    """Match the detections of two detectors in one image greedily, one to one, by class name and IoU.

    Detections are matched in the order of their scores, whichever detector they are of, each to the unmatched detection
    of the other detector with the greatest IoU. So the matches do not depend on the order of the detectors, unless
    scores are equal.

    Args:
        first: detections of one detector.
        second: detections of the other detector in the same image.

    Raises:
        UserError: the detectors have no class name in common.
    """
    require_common_class(first.classes, second.classes)
    ious = box_iou(first.boxes, second.boxes)
    same_class = torch.tensor([[a == b for b in second.class_names()] for a in first.class_names()], dtype=torch.bool)
    candidates = (same_class.reshape(ious.shape) & (ious >= MIN_IOU)).nonzero().tolist()

    def sort_key(pair: list[int]) -> tuple[float, float]:
        i, j = pair
        return -max(float(first.scores[i]), float(second.scores[j])), -float(ious[i, j])

    matches: list[list[int]] = []
    matched_first: set[int] = set()
    matched_second: set[int] = set()
    for i, j in sorted(candidates, key=sort_key):
        if i not in matched_first and j not in matched_second:
            matches.append([i, j])
            matched_first.add(i)
            matched_second.add(j)
    return Comparison(first, second, torch.tensor(matches, dtype=torch.int64).reshape(-1, 2))


def require_common_class(first: Sequence[str], second: Sequence[str]) -> None:
    """Raise an error if two detectors have no class name in common.

    Args:
        first: class names of one detector.
        second: class names of the other detector.

    Raises:
        UserError: the two have no class name in common.
    """
    if not set(first) & set(second):
        raise UserError(f"The two detectors have no class in common: {', '.join(first)}; and {', '.join(second)}.")


def draw_comparison(comparison: Comparison, image: ImageLike, names: tuple[str, str]) -> Image.Image:
    """Draw the detections of both detectors side by side, matched ones gray, others in the color of their class.

    Args:
        comparison: result of :func:`compare`.
        image: the image, in any form that ``Predictor`` takes.
        names: titles of the two pictures.

    Returns:
        An RGB picture with the counts in a caption.

    Raises:
        UserError: the image cannot be read or has another size than that of the detections.
    """
    pixels = to_image_tensor(image)
    pictures = [
        comparison.first.plot(pixels, highlight=comparison.only_first()),
        comparison.second.plot(pixels, highlight=comparison.only_second()),
    ]
    counts = comparison.counts()
    caption = (
        f"detected by both: {counts['both']} (gray), only by {names[0]}: {counts['only_first']}, "
        f"only by {names[1]}: {counts['only_second']}"
    )
    return _add_caption(side_by_side(pictures, names), caption)


def _add_caption(picture: Image.Image, text: str) -> Image.Image:
    """Write a line below a picture, in a font size that fits its width."""
    size = max(14, min(picture.size) // 34)
    font, escape = load_font([text], size)
    text = escape(text)
    while size > 8 and font.getlength(text) > picture.width - 8:
        size -= 1
        font, _ = load_font([text], size)
    result = Image.new("RGB", (picture.width, picture.height + 2 * size), "white")
    result.paste(picture, (0, 0))
    ImageDraw.Draw(result).text((4, picture.height + size // 2), text, fill="black", font=font)
    return result
