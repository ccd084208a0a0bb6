"""``ShapesDataset``: a synthetic data set for tests, demonstrations and small experiments, drawn on the fly."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drfpn.data.base import DetectionDataset, Target
from drfpn.data.masks.boxes import tight_boxes
from drfpn.data.masks.rle import encode
from drfpn.data.synthetic.geometry import OBJECTS
from drfpn.data.synthetic.scene import image_height_width, render_scene
from drfpn.utils.errors import UserError, did_you_mean

LENGTHS = {"train": 800, "val": 200, "test": 200}


class ShapesDataset(DetectionDataset):
    """Crosses, discs, rings, squares, stars and triangles on a cluttered background, with boxes and masks.

    The clutter contains distractors (ellipses, pentagons, arcs, ...) that are not objects. Objects may touch and
    partly occlude each other: a mask is the visible part of an object (at least half), its box is tight around
    that. Image i of a split depends only on the seed, the split and i.

    Args:
        split: ``train``, ``val`` or ``test``.
        length: number of images; by default 800, 200 and 200.
        seed: at least 0.
        masks: include masks in the targets; the ground truth always has them.

    Raises:
        UserError: there is no such split.
    """

    def __init__(self, split: str, length: int | None = None, seed: int = 0, *, masks: bool = True) -> None:
        if split not in LENGTHS:
            splits = ", ".join(LENGTHS)
            raise UserError(f"shapes has no split '{split}', expected one of {splits}.{did_you_mean(split, LENGTHS)}")
        self.classes = tuple(OBJECTS)
        self.category_ids = tuple(range(1, len(OBJECTS) + 1))
        self.split = split
        self.seed = seed
        self.masks = masks
        self.length = LENGTHS[split] if length is None else length
        self._ground_truth: dict[str, Any] | None = None

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        """Draw image ``index``."""
        image, target = self._draw(index)
        if not self.masks:
            del target["masks"]
        return image, target

    def _draw(self, index: int) -> tuple[Tensor, Target]:
        scene = render_scene(self._generator(index))
        masks = torch.from_numpy(scene.masks())
        image = torch.from_numpy(scene.image.astype(np.uint8)).permute(2, 0, 1).contiguous()
        target = {
            "boxes": tight_boxes(masks),
            "labels": torch.tensor(scene.labels, dtype=torch.int64),
            "image_id": torch.tensor(self.image_id(index)),
            "area": masks.sum(dim=(1, 2)).to(torch.float32),
            "iscrowd": torch.zeros(len(masks), dtype=torch.int64),
            "masks": masks,
        }
        return image, target

    def name(self, index: int) -> str:
        """Return for example ``shapes/train/12``."""
        return f"shapes/{self.split}/{index}"

    def image_id(self, index: int) -> int:
        """Return index + 1."""
        return index + 1

    def sizes(self) -> NDArray[np.int64]:
        """Return (height, width) of every image, (M, 2)."""
        return np.array([image_height_width(self._generator(i)) for i in range(len(self))]).reshape(-1, 2)

    def ground_truth(self) -> dict[str, Any]:
        """Return the split as a COCO dict with masks; the first call draws every image."""
        if self._ground_truth is None:
            self._ground_truth = self._draw_ground_truth()
        return self._ground_truth

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_ground_truth": None}  # workers do not need it

    def _generator(self, index: int) -> np.random.Generator:
        if not 0 <= index < len(self):
            raise IndexError(index)
        key = (self.seed, list(LENGTHS).index(self.split), index)
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))

    def _draw_ground_truth(self) -> dict[str, Any]:
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for index in range(len(self)):
            image, target = self._draw(index)
            height, width = image.shape[1:]
            images.append({"id": index + 1, "file_name": self.name(index), "height": height, "width": width})
            for number, (x1, y1, x2, y2) in enumerate(target["boxes"].tolist()):
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": index + 1,
                        "category_id": int(target["labels"][number]),
                        "bbox": [x1, y1, x2 - x1, y2 - y1],
                        "area": float(target["area"][number]),
                        "iscrowd": 0,
                        "segmentation": encode(target["masks"][number].numpy()),
                    }
                )
        categories = [{"id": i, "name": name} for i, name in enumerate(self.classes, start=1)]
        return {"images": images, "annotations": annotations, "categories": categories}
