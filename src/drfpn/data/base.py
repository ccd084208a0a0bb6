"""What every data set here is: uint8 images with torchvision's target dict."""

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from drfpn.data.validation.problems import Problem

Target = dict[str, Tensor]
"""Of one image with N objects:

- ``boxes`` (N, 4) float32: x1, y1, x2, y2 in pixels, inside the image
- ``labels`` (N,) int64: 1..K
- ``image_id`` () int64
- ``area`` (N,) float32: pixels
- ``iscrowd`` (N,) int64: 0
- ``masks`` (N, H, W) uint8: 0 or 1; only where masks are wanted
"""


class DetectionDataset(Dataset[tuple[Tensor, Target]]):
    """Images with boxes. Item i is (image (3, H, W) uint8, ``Target``).

    Regions that evaluation ignores (crowds, VOC's difficult objects) are in ``ground_truth`` only. Can be
    pickled, so that worker processes may be spawned.
    """

    classes: tuple[str, ...]
    """Names of labels 1..K."""
    category_ids: tuple[int, ...]
    """Ids of labels 1..K in ``ground_truth``."""
    left_out: tuple[Problem, ...] = ()
    """Objects that are annotated but cannot be trained on."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> tuple[Tensor, Target]: ...

    def image(self, index: int) -> Tensor:
        """Return image ``index`` alone, where its target would take time for nothing."""
        return self[index][0]

    @abstractmethod
    def name(self, index: int) -> str:
        """Return what messages and pictures call image ``index``: its path, or ``shapes/train/12``."""

    @abstractmethod
    def image_id(self, index: int) -> int:
        """Return the id of image ``index`` in ``ground_truth``."""

    @abstractmethod
    def sizes(self) -> NDArray[np.int64]:
        """Return (height, width) of every image, (M, 2), without decoding any."""

    def objects(self) -> int:
        """Return how many objects there are, crowd regions included."""
        return len(self.ground_truth()["annotations"])

    @abstractmethod
    def ground_truth(self) -> dict[str, Any]:
        """Return the split as a COCO dict: images, annotations (with crowds) and categories."""
