"""``Predictor``: a trained or exported detector that is called with an image."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from drfpn.detectors.base import CanDetect
from drfpn.export import is_exported_file, load_exported
from drfpn.inference.detections import Detections
from drfpn.inference.images import ImageLike, to_image_tensor
from drfpn.inference.tiling import DEFAULT_OVERLAP, TiledDetector
from drfpn.ops import fuse
from drfpn.training import load_detector
from drfpn.utils.runs import find_weights, locate_run, name_runs


@dataclass(frozen=True)
class Predictor:
    """A detector with its class names, called as ``predictor(image)``."""

    model: CanDetect
    """Detector in evaluation mode, on ``device``."""
    classes: tuple[str, ...]
    """Class names: that of label k is ``classes[k - 1]``."""
    category_ids: tuple[int, ...]
    """Category ids of the data set: that of label k is ``category_ids[k - 1]``."""
    device: torch.device | str = "cpu"
    """Device of the model."""
    name: str = ""
    """Name of the detector, for titles of pictures."""
    file: Path | None = None
    """File of the weights or of the exported detector."""

    def __call__(self, image: ImageLike) -> Detections:
        """Detect objects in one image.

        Args:
            image: file, Pillow image, uint8 array (H, W, 3) or (H, W), or uint8 tensor (3, H, W), in RGB order; see
                :func:`drfpn.inference.images.to_image_tensor`.

        Returns:
            All detections that reach the score threshold of the detector (0.05 by default), sorted by score, on the
            CPU, with boxes in pixels of the image.

        Raises:
            UnreadableInputError: the file cannot be read.
            UserError: the array or tensor has another dtype or shape, or the Pillow image holds floats.
        """
        pixels = to_image_tensor(image)
        with torch.inference_mode():
            output = self.model.detect([pixels.to(self.device)])[0]
        height, width = pixels.shape[-2:]
        return Detections(
            **{key: value.cpu() for key, value in output.items()},
            image_size=(height, width),
            classes=self.classes,
            category_ids=self.category_ids,
        )


def load_predictor(
    run_or_file: str | Path,
    device: torch.device | str = "cpu",
    *,
    tile: int | None = None,
    overlap: float = DEFAULT_OVERLAP,
    tile_full: bool = True,
) -> Predictor:
    """Load a trained or exported detector for inference.

    Args:
        run_or_file: run folder, weights of a run (.safetensors), exported file (.onnx, .xml, .pt2), or the name of a
            run on the Hugging Face Hub, ``"hf:user/name"`` or ``"hf:user/name@revision"``, whose weights are downloaded
            into the Hub's cache.
        device: device of a trained detector; exported files always run on the CPU.
        tile: side in pixels of the overlapping tiles that images are detected in, for small objects in large images;
            ``None`` to detect in whole images.
        overlap: part of a tile's side that it has in common with the next tile, 0 to 0.9.
        tile_full: whether to detect in the whole image besides its tiles, for objects larger than the overlap.

    Raises:
        UserError: as of :func:`drfpn.training.load_detector` and :func:`drfpn.export.load_exported`.
        UsageError: ``tile`` or ``overlap`` is out of range.
    """
    predictor = _load(run_or_file, device)
    if tile is None:
        return predictor
    return replace(predictor, model=TiledDetector(predictor.model, tile, overlap, full=tile_full))


def _load(run_or_file: str | Path, device: torch.device | str) -> Predictor:
    path = locate_run(run_or_file)
    if is_exported_file(path):
        exported = load_exported(path)
        return Predictor(exported, exported.classes, exported.category_ids, "cpu", path.stem, path)
    model, card = load_detector(run_or_file)
    model.backbone = fuse(model.backbone, torch.zeros(1, 3, 128, 128))
    (name,) = name_runs([Path(run_or_file)])
    return Predictor(model.to(device), card.classes, card.category_ids, device, name, find_weights(path))
