"""Collecting objects one by one into the arrays of ``Annotations``."""

from array import array
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drfpn.data.masks.segmentations import Packer


class ObjectLists:
    """Growing arrays of objects, in any order; ``arrays`` sorts them by image.

    Args:
        segmentations: Whether they are kept.
    """

    def __init__(self, *, segmentations: bool = True) -> None:
        self._images = array("q")
        self._boxes = array("d")
        self._labels = array("q")
        self._areas = array("d")
        self._crowd = array("b")
        self._ids = array("q")
        self._segmentations = Packer() if segmentations else None

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
        self._boxes.extend(box)
        self._labels.append(label)
        self._areas.append(area)
        self._crowd.append(crowd)
        self._ids.append(annotation_id)
        if self._segmentations is not None:
            self._segmentations.add(segmentation)

    def arrays(
        self,
        image_count: int,
        *,
        images: NDArray[np.int64] | None = None,
        labels: NDArray[np.int64] | None = None,
        keep: NDArray[np.bool_] | None = None,
    ) -> dict[str, Any]:
        """Return the arrays of objects, and ``starts``, as keyword arguments of ``Annotations``.

        Args:
            image_count: M.
            images: (N,) index of each object's image in place of what was added.
            labels: (N,) labels in place of those that were added.
            keep: (N,) which objects to take; ``None`` for all.
        """
        images = _view(self._images, np.int64) if images is None else images
        labels = _view(self._labels, np.int64) if labels is None else labels
        order = np.argsort(images, kind="stable")
        if keep is not None:
            order = order[keep[order]]
        ids = _view(self._ids, np.int64)[order]
        unnumbered = ids < 1
        ids[unnumbered] = max(0, ids.max(initial=0)) + 1 + np.arange(unnumbered.sum())
        segmentations = None
        if self._segmentations is not None and self._segmentations.any():
            segmentations = self._segmentations.pack().select(order)
        return {
            "starts": np.searchsorted(images[order], np.arange(image_count + 1)).astype(np.int64),
            "boxes": _view(self._boxes, np.float64).reshape(-1, 4)[order],
            "labels": labels[order],
            "areas": _view(self._areas, np.float64)[order],
            "crowd": _view(self._crowd, np.int8)[order].astype(np.bool_),
            "annotation_ids": ids,
            "segmentations": segmentations,
        }

    @property
    def images(self) -> NDArray[np.int64]:
        """What was added as the image of each object, (N,)."""
        return _view(self._images, np.int64)

    @property
    def labels(self) -> NDArray[np.int64]:
        """What was added as the label of each object, (N,)."""
        return _view(self._labels, np.int64)

    @property
    def annotation_ids(self) -> NDArray[np.int64]:
        """What was added as the id of each object, (N,)."""
        return _view(self._ids, np.int64)


def _view(values: "array[Any]", dtype: Any) -> NDArray[Any]:
    return np.frombuffer(values, dtype=dtype) if values else np.zeros(0, dtype=dtype)
