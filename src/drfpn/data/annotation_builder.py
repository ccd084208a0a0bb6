"""``AnnotationBuilder``: collects objects one by one into the arrays of ``Annotations``."""

from array import array
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drfpn.data.masks.segmentations import SegmentationsBuilder


class AnnotationBuilder:
    """Growing arrays of objects, in any order; ``arrays`` sorts them by image.

    Args:
        segmentations: keep the segmentations.
    """

    def __init__(self, *, segmentations: bool = True) -> None:
        self._image_indices = array("q")
        self._boxes = array("d")
        self._labels = array("q")
        self._areas = array("d")
        self._crowd = array("b")
        self._ids = array("q")
        self._segmentations = SegmentationsBuilder() if segmentations else None

    def add(
        self,
        *,
        image_index: int,
        box: list[float],
        label: int,
        area: float,
        crowd: bool = False,
        annotation_id: int = 0,
        segmentation: Any = None,
    ) -> None:
        """Append one object.

        Args:
            image_index: index of its image.
            box: x, y, width, height in pixels.
            label: 1..K.
            area: area in pixels.
            crowd: COCO's ``iscrowd``.
            annotation_id: id of the annotation; below 1 for one that is numbered after the others.
            segmentation: a JSON value, or ``None``.
        """
        self._image_indices.append(image_index)
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
        image_indices: NDArray[np.int64] | None = None,
        labels: NDArray[np.int64] | None = None,
        keep: NDArray[np.bool_] | None = None,
    ) -> dict[str, Any]:
        """Return the arrays of objects, and ``starts``, as keyword arguments of ``Annotations``.

        Args:
            image_count: number of images, M.
            image_indices: (N,) index of the image of each object; ``None`` for those that were added.
            labels: (N,) labels; ``None`` for those that were added.
            keep: (N,) mask of the objects to return; ``None`` for all.
        """
        image_indices = _view(self._image_indices, np.int64) if image_indices is None else image_indices
        labels = _view(self._labels, np.int64) if labels is None else labels
        order = np.argsort(image_indices, kind="stable")
        if keep is not None:
            order = order[keep[order]]
        ids = _view(self._ids, np.int64)[order]
        unnumbered = ids < 1
        ids[unnumbered] = max(0, ids.max(initial=0)) + 1 + np.arange(unnumbered.sum())
        segmentations = None
        if self._segmentations is not None and self._segmentations.any():
            segmentations = self._segmentations.build().select(order)
        return {
            "starts": np.searchsorted(image_indices[order], np.arange(image_count + 1)).astype(np.int64),
            "boxes": _view(self._boxes, np.float64).reshape(-1, 4)[order],
            "labels": labels[order],
            "areas": _view(self._areas, np.float64)[order],
            "crowd": _view(self._crowd, np.int8)[order].astype(np.bool_),
            "annotation_ids": ids,
            "segmentations": segmentations,
        }

    @property
    def image_indices(self) -> NDArray[np.int64]:
        """The ``image_index`` of each object as added, (N,)."""
        return _view(self._image_indices, np.int64)

    @property
    def labels(self) -> NDArray[np.int64]:
        """The ``label`` of each object as added, (N,)."""
        return _view(self._labels, np.int64)

    @property
    def annotation_ids(self) -> NDArray[np.int64]:
        """The ``annotation_id`` of each object as added, (N,)."""
        return _view(self._ids, np.int64)


def _view(values: "array[Any]", dtype: Any) -> NDArray[Any]:
    return np.frombuffer(values, dtype=dtype) if values else np.zeros(0, dtype=dtype)
