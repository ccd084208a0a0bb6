"""``DetectionDataset``: the base class of data sets, uint8 images with torchvision's target dict."""

from abc import abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from drfpn.data.annotation_builder import AnnotationBuilder
from drfpn.data.annotations import Annotations
from drfpn.data.validation.issues import Issue
from drfpn.utils.errors import UserError

Target = dict[str, Tensor]
"""Targets of one image with N objects:

- ``boxes`` (N, 4) float32: x1, y1, x2, y2 in pixels, inside the image
- ``labels`` (N,) int64: 1..K
- ``image_id`` () int64
- ``area`` (N,) float32: pixels
- ``iscrowd`` (N,) int64: 0
- ``masks`` (N, H, W) uint8: 0 or 1; only in data sets that are opened with masks
"""


class DetectionDataset(Dataset[tuple[Tensor, Target]]):
    """Images with boxes. Item i is (image (3, H, W) uint8, ``Target``).

    Annotations that evaluation ignores (crowds, VOC's difficult objects) are in ``ground_truth`` only. Can be
    pickled, so that worker processes may be spawned.
    """

    classes: tuple[str, ...]
    """Names of labels 1..K."""
    category_ids: tuple[int, ...]
    """Ids of labels 1..K in ``ground_truth``."""
    skipped_objects: tuple[Issue, ...] = ()
    """Issues of the annotated objects that cannot be trained on."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> tuple[Tensor, Target]: ...

    def image(self, index: int) -> Tensor:
        """Return image ``index`` without its target."""
        return self[index][0]

    @abstractmethod
    def name(self, index: int) -> str:
        """Return the name of image ``index`` for messages and figures: its path, or ``shapes/train/12``."""

    @abstractmethod
    def image_id(self, index: int) -> int:
        """Return the id of image ``index`` in ``ground_truth``."""

    @abstractmethod
    def sizes(self) -> NDArray[np.int64]:
        """Return (height, width) of every image, (M, 2), without decoding any."""

    def num_objects(self) -> int:
        """Return the number of objects, crowds included."""
        return len(self.ground_truth()["annotations"])

    def has_objects(self) -> bool:
        """Return whether an image that can be read has an object to train on; crowds are none."""
        for index in range(len(self)):
            with suppress(UserError):
                if len(self[index][1]["boxes"]):
                    return True
        return False

    @abstractmethod
    def ground_truth(self) -> dict[str, Any]:
        """Return the split as a COCO dict: images, annotations (with crowds) and categories."""

    def to_annotations(self) -> Annotations:
        """Return the ground truth as flat arrays."""
        labels = {category_id: label for label, category_id in enumerate(self.category_ids, start=1)}
        image_ids = [self.image_id(index) for index in range(len(self))]
        indices = {image_id: index for index, image_id in enumerate(image_ids)}
        objects = AnnotationBuilder()
        for annotation in self.ground_truth()["annotations"]:
            objects.add(
                image_index=indices[annotation["image_id"]],
                box=annotation["bbox"],
                label=labels[annotation["category_id"]],
                area=annotation["area"],
                crowd=bool(annotation["iscrowd"]),
                annotation_id=annotation["id"],
                segmentation=annotation.get("segmentation"),
            )
        return Annotations(
            root=Path(),
            source=Path(),
            classes=self.classes,
            category_ids=np.array(self.category_ids, dtype=np.int64),
            image_ids=np.array(image_ids, dtype=np.int64),
            file_names=np.array([self.name(index) for index in range(len(self))], dtype=np.str_),
            sizes=self.sizes(),
            **objects.arrays(len(self)),
        )
