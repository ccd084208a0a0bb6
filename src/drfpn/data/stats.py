"""Statistics of a data set: images, objects per class, sizes, aspect ratios."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from drfpn.data.annotations import Annotations
from drfpn.data.base import DetectionDataset

SMALL_BELOW, MEDIUM_BELOW = 32**2, 96**2
"""COCO's bounds of areas in pixels."""

QUANTILES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)


def stats(source: DetectionDataset | Annotations) -> dict[str, Any]:
    """Count the images and objects of a split. Crowds are counted separately, not among the objects.

    Args:
        source: the data set, or its annotations.

    Returns:
        ``images``, ``images_without_objects``, ``objects``, ``crowd``, ``objects_per_class`` (a dict by
        name), ``small``, ``medium``, ``large``: objects by area as COCO divides them, ``with_polygons``,
        ``with_rle``: objects by the format of their segmentation, ``objects_per_image``: ``mean`` and ``max``, and
        ``quantiles``: of ``width`` and ``height`` in pixels, ``aspect`` (width / height) and ``relative_side`` (square
        root of the fraction of the image that the box covers), each a dict by quantile ("0.5" is the median), empty
        without objects.
    """
    annotations = source if isinstance(source, Annotations) else source.to_annotations()
    no_crowd = ~annotations.crowd
    labels, areas = annotations.labels[no_crowd], annotations.areas[no_crowd]
    per_class = np.bincount(labels, minlength=len(annotations.classes) + 1)[1:].tolist()
    per_image = np.bincount(annotations.image_indices()[no_crowd], minlength=len(annotations))
    small, medium = areas < SMALL_BELOW, areas < MEDIUM_BELOW
    segmentations = annotations.segmentations
    formats = np.full(len(labels), "none") if segmentations is None else segmentations.formats()[no_crowd]
    return {
        "images": len(annotations),
        "images_without_objects": int((per_image == 0).sum()),
        "objects": len(labels),
        "crowd": int(annotations.crowd.sum()),
        "objects_per_class": dict(zip(annotations.classes, per_class, strict=True)),
        "small": int(small.sum()),
        "medium": int((medium & ~small).sum()),
        "large": int((~medium).sum()),
        "with_polygons": int((formats == "polygons").sum()),
        "with_rle": int((formats == "rle").sum()),
        "objects_per_image": {"mean": float(per_image.mean()), "max": int(per_image.max())},
        "quantiles": {name: _quantiles(values) for name, values in box_dimensions(annotations).items()},
    }


def box_dimensions(annotations: Annotations) -> dict[str, NDArray[np.float64]]:
    """Return ``width``, ``height``, ``aspect`` and ``relative_side`` of the objects that are not crowds, (N,) each."""
    width, height = annotations.boxes[~annotations.crowd, 2:].T
    image_area = annotations.sizes[annotations.image_indices()[~annotations.crowd]].prod(axis=1)
    relative_side = np.sqrt(width * height / np.maximum(image_area, 1))
    return {"width": width, "height": height, "aspect": width / height, "relative_side": relative_side}


def _quantiles(values: NDArray[np.float64]) -> dict[str, float]:
    if not len(values):
        return {}
    return {f"{q:g}": float(value) for q, value in zip(QUANTILES, np.quantile(values, QUANTILES), strict=True)}
