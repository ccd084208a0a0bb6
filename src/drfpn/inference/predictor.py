"""A trained detector with what it takes to use it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from drfpn.export import is_exported, load_exported
from drfpn.inference.detections import Detections
from drfpn.inference.images import ImageLike, as_image
from drfpn.ops import fuse
from drfpn.training import load_detector
from drfpn.utils.runs import name_runs


@dataclass(frozen=True)
class Predictor:
    """Finds the objects of one image: ``predictor(image)``."""

    model: Any
    """A detector in evaluation mode, on ``device``."""
    classes: tuple[str, ...]
    """Name of each class: label k is ``classes[k - 1]``."""
    category_ids: tuple[int, ...]
    """The data set's own id of each class."""
    device: torch.device | str = "cpu"
    """Where the model is."""
    name: str = ""
    """What to call it in pictures."""

    def __call__(self, image: ImageLike) -> Detections:
        """Return what the detector finds, all that it does not drop itself (from score 0.05 on, unless set otherwise).

        Args:
            image: file, Pillow image, or uint8 (3, H, W).

        Raises:
            UserError: the image cannot be read.
        """
        pixels = as_image(image)
        with torch.inference_mode():
            output = self.model.detect([pixels.to(self.device)])[0]
        height, width = pixels.shape[-2:]
        return Detections(
            **{key: value.cpu() for key, value in output.items()},
            size=(height, width),
            classes=self.classes,
            category_ids=self.category_ids,
        )


def load_predictor(run_or_file: str | Path, device: torch.device | str = "cpu") -> Predictor:
    """Load a detector from a run folder, a .safetensors file that a run wrote, or an exported file (.onnx, .xml, .pt2).

    Exported files run on the CPU, whatever ``device`` says.

    Raises:
        UserError: as :func:`drfpn.training.load_detector` and :func:`drfpn.export.load_exported`.
    """
    if is_exported(run_or_file):
        exported = load_exported(run_or_file)
        return Predictor(exported, exported.classes, exported.category_ids, "cpu", Path(run_or_file).stem)
    model, card = load_detector(run_or_file)
    detector: Any = model
    detector.backbone = fuse(detector.backbone, torch.zeros(1, 3, 128, 128))
    (name,) = name_runs([Path(run_or_file)])
    return Predictor(model.to(device), card.classes, card.category_ids, device, name)
