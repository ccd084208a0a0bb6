"""``PredictorPool``: thread-safe inference and inspection with several detectors."""

import os
from collections.abc import Mapping
from pathlib import Path
from threading import Lock

from torch import Tensor

from drfpn.data import load_image
from drfpn.data.image_io import image_size
from drfpn.inference import Detections, Predictor
from drfpn.utils.errors import UserError
from drfpn.visualization.hooks import NeckTensors, capture_neck_tensors

MAX_PIXELS = 25_000_000
"""Images with more pixels are refused before they are decoded."""


class PredictorPool:
    """Several detectors that requests in several threads share.

    Each detector processes one image at a time; no state of an image is stored.

    Args:
        predictors: detectors by name.
    """

    def __init__(self, predictors: Mapping[str, Predictor]) -> None:
        self.predictors = dict(predictors)
        self._locks = {name: Lock() for name in predictors}

    def load_image(self, file: str | os.PathLike[str]) -> Tensor:
        """Load an image file.

        Args:
            file: uploaded file.

        Returns:
            (3, H, W), RGB, uint8.

        Raises:
            UserError: the file is not an image, is damaged, or has more than ``MAX_PIXELS`` pixels. The message names
                the file without its folder.
        """
        path = Path(file)
        try:
            height, width = image_size(path)
            if height * width > MAX_PIXELS:
                raise UserError(
                    f"{path} has {width} x {height} = {height * width / 1e6:.0f} million pixels, "
                    f"but the limit is {MAX_PIXELS // 1_000_000} million: reduce its size first."
                )
            return load_image(path)
        except UserError as error:  # visitors must not see folders of the server
            raise UserError(str(error).replace(str(path), path.name)) from error

    def detect(self, image: Tensor, name: str) -> Detections:
        """Detect objects in an image.

        Args:
            image: (3, H, W), RGB, uint8.
            name: name of the detector.
        """
        with self._locks[name]:
            return self.predictors[name](image)

    def capture_neck_tensors(self, image: Tensor, name: str) -> NeckTensors:
        """Return the intermediate tensors of a detector's neck.

        Args:
            image: (3, H, W), RGB, uint8.
            name: name of the detector.

        Raises:
            UserError: as of :func:`drfpn.visualization.hooks.capture_neck_tensors`.
        """
        with self._locks[name]:  # the forward hooks on the model must not run for another image
            return capture_neck_tensors(self.predictors[name].model, image)
