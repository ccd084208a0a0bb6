"""Two detectors on one image: what both found, and what only one of them did."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.ops import box_iou

from drfpn.inference.detections import Detections
from drfpn.inference.images import ImageLike, as_image
from drfpn.utils.errors import UserError
from drfpn.visualization import side_by_side

MIN_IOU = 0.5
"""From this overlap on, two boxes of a class are the same object."""


@dataclass(frozen=True)
class Comparison:
    """What two detectors found in one image."""

    left: Detections
    right: Detections
    pairs: Tensor
    """(P, 2), index of the left and of the right detection of what both found."""

    def only_left(self) -> Tensor:
        """Return which of the left detections have no partner, bool (D,)."""
        return _without(self.pairs[:, 0], len(self.left))

    def only_right(self) -> Tensor:
        """Return which of the right detections have no partner, bool (D,)."""
        return _without(self.pairs[:, 1], len(self.right))

    def counts(self) -> dict[str, int]:
        """Return how many ``both``, ``only_left`` and ``only_right`` found."""
        both = len(self.pairs)
        return {"both": both, "only_left": len(self.left) - both, "only_right": len(self.right) - both}


def _without(taken: Tensor, count: int) -> Tensor:
    alone = torch.ones(count, dtype=torch.bool)
    alone[taken] = False
    return alone


def compare(left: Detections, right: Detections) -> Comparison:
    """Pair the detections of two detectors, one to one, by class name and overlap.

    The best score of all chooses first, whichever side it is on, and takes the partner that it overlaps most. So the
    pairs do not depend on which detector is called the left one, unless scores are equal.

    Raises:
        UserError: the two know no class of the same name.
    """
    require_common_class(left.classes, right.classes)
    overlaps = box_iou(left.boxes, right.boxes)
    same = torch.tensor([[a == b for b in right.names()] for a in left.names()], dtype=torch.bool)
    candidates = (same.reshape(overlaps.shape) & (overlaps >= MIN_IOU)).nonzero().tolist()

    def rank(pair: list[int]) -> tuple[float, float]:
        i, j = pair
        return -max(float(left.scores[i]), float(right.scores[j])), -float(overlaps[i, j])

    pairs: list[list[int]] = []
    taken_left: set[int] = set()
    taken_right: set[int] = set()
    for i, j in sorted(candidates, key=rank):
        if i not in taken_left and j not in taken_right:
            pairs.append([i, j])
            taken_left.add(i)
            taken_right.add(j)
    return Comparison(left, right, torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2))


def require_common_class(left: Sequence[str], right: Sequence[str]) -> None:
    """Raise ``UserError`` where two detectors know no class of the same name."""
    if not set(left) & set(right):
        raise UserError(f"The two detectors have no class in common: {', '.join(left)}; and {', '.join(right)}.")


def draw_comparison(found: Comparison, image: ImageLike, names: tuple[str, str]) -> Image.Image:
    """Draw both side by side: what only one found in the colour of its class, what both found in grey.

    Args:
        found: the detections.
        image: file, Pillow image, or uint8 (3, H, W).
        names: of the two detectors.
    """
    pixels = as_image(image)
    pictures = [
        found.left.plot(pixels, marked=found.only_left()),
        found.right.plot(pixels, marked=found.only_right()),
    ]
    counts = found.counts()
    text = (
        f"found by both: {counts['both']} (grey), only by {names[0]}: {counts['only_left']}, "
        f"only by {names[1]}: {counts['only_right']}"
    )
    return _with_caption(side_by_side(pictures, names), text)


def _with_caption(picture: Image.Image, text: str) -> Image.Image:
    """Write a line below a picture, in the size that its width allows."""
    size = max(14, min(picture.size) // 34)
    font = ImageFont.load_default(size=size)
    while size > 8 and font.getlength(text) > picture.width - 8:
        size -= 1
        font = ImageFont.load_default(size=size)
    result = Image.new("RGB", (picture.width, picture.height + 2 * size), "white")
    result.paste(picture, (0, 0))
    ImageDraw.Draw(result).text((4, picture.height + size // 2), text, fill="black", font=font)
    return result
