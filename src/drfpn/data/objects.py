"""Collecting objects one by one into the arrays of ``Annotations``."""

from typing import Any

import numpy as np

from drfpn.data.segmentations import Segmentations


class ObjectLists:
    """Growing lists of objects, in any order; ``arrays`` sorts them by image."""

    def __init__(self) -> None:
        self._images: list[int] = []
        self._boxes: list[list[float]] = []
        self._labels: list[int] = []
        self._areas: list[float] = []
        self._crowd: list[bool] = []
        self._ids: list[int] = []
        self._segmentations: list[Any] = []

    def add(
        self,
        *,
        image: int,
        box: list[float],
        label: int,
        area: float,
        crowd: bool = False,
        annotation_id: int = 0,
        segmentation: Any = None,
    ) -> None:
        """Append one object.

        Args:
            image: Index of its image.
            box: x, y, width, height in pixels.
            label: 1..K
            area: In pixels.
            crowd: Whether evaluation is to ignore it.
            annotation_id: Its id; below 1 for one that is to be numbered after the others.
            segmentation: A JSON value, or ``None``.
        """
        self._images.append(image)
        self._boxes.append(box)
        self._labels.append(label)
        self._areas.append(area)
        self._crowd.append(crowd)
        self._ids.append(annotation_id)
        self._segmentations.append(segmentation)

    def arrays(self, image_count: int) -> dict[str, Any]:
        """Return the arrays of objects, and ``starts``, as keyword arguments of ``Annotations``."""
        images = np.array(self._images, dtype=np.int64)
        order = np.argsort(images, kind="stable")
        ids = np.array(self._ids, dtype=np.int64)
        unnumbered = ids < 1
        ids[unnumbered] = max(0, ids.max(initial=0)) + 1 + np.arange(unnumbered.sum())
        segmentations = None
        if any(value is not None for value in self._segmentations):
            segmentations = Segmentations.pack(self._segmentations[i] for i in order.tolist())
        return {
            "starts": np.searchsorted(images[order], np.arange(image_count + 1)).astype(np.int64),
            "boxes": np.array(self._boxes, dtype=np.float64).reshape(-1, 4)[order],
            "labels": np.array(self._labels, dtype=np.int64)[order],
            "areas": np.array(self._areas, dtype=np.float64)[order],
            "crowd": np.array(self._crowd, dtype=np.bool_)[order],
            "annotation_ids": ids[order],
            "segmentations": segmentations,
        }
