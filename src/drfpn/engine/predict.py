"""Detections on image files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from drfpn.data import load_image
from drfpn.data.images import IMAGE_SUFFIXES
from drfpn.detectors.inference import all_masks
from drfpn.engine.evaluate import Result, to_results
from drfpn.errors import UserError, nearest


@dataclass(frozen=True)
class Detections:
    """What a detector found in one image."""

    file: Path
    image: Tensor
    """uint8 (3, H, W)."""
    boxes: Tensor
    """(D, 4), x1, y1, x2, y2 in pixels, best first."""
    labels: Tensor
    """(D,), 1..K."""
    scores: Tensor
    """(D,), 0..1."""
    crops: Tensor | None = None
    """(D, 1, M, M), of mask detectors: probability of the object inside of each box."""

    def above(self, score: float) -> "Detections":
        """Return those with at least ``score``."""
        keep = self.scores >= score
        crops = None if self.crops is None else self.crops[keep]
        return Detections(self.file, self.image, self.boxes[keep], self.labels[keep], self.scores[keep], crops)

    def masks(self) -> Tensor | None:
        """Return the masks (D, H, W) in the image, true inside; ``None`` of detectors without."""
        return None if self.crops is None else all_masks(self.crops, self.boxes, self.image.shape[-2:])

    def to_coco(self, image_id: int, category_ids: Sequence[int]) -> list[Result]:
        """Return COCO's results format."""
        output = {"boxes": self.boxes, "labels": self.labels, "scores": self.scores}
        if self.crops is not None:
            output["crops"] = self.crops
        return to_results(output, image_id, category_ids, self.image.shape[-2:])


def find_images(inputs: Sequence[str]) -> list[Path]:
    """Return the image files that ``inputs`` name: files, folders (all images inside) and glob patterns.

    Raises:
        UserError: an input that does not exist or holds no image.
    """
    files: list[Path] = []
    for text in inputs:
        path = Path(text)
        if path.is_dir():
            found = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
        elif path.is_file():
            found = [path]
        elif any(sign in text for sign in "*?["):
            root = Path(path.anchor) if path.is_absolute() else Path()
            pattern = str(path.relative_to(path.anchor)) if path.is_absolute() else text
            found = sorted(file for file in root.glob(pattern) if file.suffix.lower() in IMAGE_SUFFIXES)
        else:
            siblings = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
            raise UserError(f"There is no file or folder {text}.{nearest(path.name, siblings)}")
        if not found:
            raise UserError(f"{text} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))}).")
        files += found
    return list(dict.fromkeys(files))


def predict_file(model: Any, file: Path, *, device: torch.device | str = "cpu") -> Detections:
    """Run a detector (in evaluation mode, on ``device``) on one image file."""
    image = load_image(file)
    with torch.inference_mode():
        output = model.detect([image.to(device)])[0]
    return Detections(file, image, **{key: value.cpu() for key, value in output.items()})


def image_ids(files: Sequence[Path]) -> list[int]:
    """Return COCO's ids where all files are named by them (000000000139.jpg), else 1, 2, 3, ..."""
    stems = [file.stem for file in files]
    if all(stem.isdigit() for stem in stems) and len({int(stem) for stem in stems}) == len(stems):
        return [int(stem) for stem in stems]
    return list(range(1, len(files) + 1))
