"""Counting what a data set holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drfpn.data.annotations import Annotations
from drfpn.data.base import DetectionDataset
from drfpn.data.dataset import AnnotatedDataset
from drfpn.data.masks.segmentations import Segmentations

SMALL_BELOW, MEDIUM_BELOW = 32**2, 96**2
"""COCO's bounds of areas in pixels."""

QUANTILES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)


@dataclass(frozen=True)
class Objects:
    """M images with N objects of K classes, from whatever data set."""

    classes: tuple[str, ...]
    sizes: NDArray[np.int64]
    """(M, 2) height and width of the images."""
    names: Sequence[str]
    """(M,) of the images."""
    images: NDArray[np.int64]
    """(N,) 0..M - 1"""
    boxes: NDArray[np.float64]
    """(N, 4) x, y, width, height in pixels."""
    labels: NDArray[np.int64]
    """(N,) 1..K"""
    areas: NDArray[np.float64]
    """(N,) pixels"""
    crowd: NDArray[np.bool_]
    """(N,)"""
    forms: NDArray[np.str_]
    """(N,) of the segmentation: ``none``, ``polygons``, ``rle``."""


def objects_of(source: DetectionDataset | Annotations) -> Objects:
    """Return the objects of a split, without its images."""
    if isinstance(source, AnnotatedDataset):
        source = source.annotations
    if isinstance(source, Annotations):
        return Objects(
            classes=source.classes,
            sizes=source.sizes,
            names=source.file_names.tolist(),
            images=source.image_of_object(),
            boxes=source.boxes,
            labels=source.labels,
            areas=source.areas,
            crowd=source.crowd,
            forms=np.full(len(source.labels), "none") if source.segmentations is None else source.segmentations.forms(),
        )
    label_of = {category_id: label for label, category_id in enumerate(source.category_ids, start=1)}
    index_of = {source.image_id(index): index for index in range(len(source))}
    records = source.ground_truth()["annotations"]
    return Objects(
        classes=source.classes,
        sizes=source.sizes(),
        names=[source.name(index) for index in range(len(source))],
        images=np.array([index_of[record["image_id"]] for record in records], dtype=np.int64),
        boxes=np.array([record["bbox"] for record in records], dtype=np.float64).reshape(-1, 4),
        labels=np.array([label_of[record["category_id"]] for record in records], dtype=np.int64),
        areas=np.array([record["area"] for record in records], dtype=np.float64),
        crowd=np.array([record["iscrowd"] for record in records], dtype=np.bool_),
        forms=Segmentations.pack(record.get("segmentation") for record in records).forms(),
    )


def stats(source: DetectionDataset | Annotations | Objects) -> dict[str, Any]:
    """Count the images and objects of a split. Crowd regions are counted apart, not among the objects.

    Returns:
        ``images``, ``images_without_objects``, ``objects``, ``crowd``, ``objects_per_class`` (a dict by
        name), ``small``, ``medium``, ``large``: objects by area as COCO divides them, ``with_polygons``,
        ``with_rle``: objects by the form of their segmentation, ``objects_per_image``: ``mean`` and ``max``, and
        ``quantiles``: of ``width`` and ``height`` in pixels, ``aspect`` (width / height) and ``relative_side`` (root of
        the box's share of its image), each a dict by quantile ("0.5" is the median), empty without objects.
    """
    objects = source if isinstance(source, Objects) else objects_of(source)
    real = ~objects.crowd
    labels, areas, images = objects.labels[real], objects.areas[real], objects.images[real]
    forms = objects.forms[real]
    per_class = np.bincount(labels, minlength=len(objects.classes) + 1)[1:].tolist()
    per_image = np.bincount(images, minlength=len(objects.sizes))
    small, medium = areas < SMALL_BELOW, areas < MEDIUM_BELOW
    return {
        "images": len(objects.sizes),
        "images_without_objects": int((per_image == 0).sum()),
        "objects": len(labels),
        "crowd": int(objects.crowd.sum()),
        "objects_per_class": dict(zip(objects.classes, per_class, strict=True)),
        "small": int(small.sum()),
        "medium": int((medium & ~small).sum()),
        "large": int((~medium).sum()),
        "with_polygons": int((forms == "polygons").sum()),
        "with_rle": int((forms == "rle").sum()),
        "objects_per_image": {"mean": float(per_image.mean()), "max": int(per_image.max())},
        "quantiles": {name: _quantiles(values) for name, values in shapes_of(objects).items()},
    }


def shapes_of(objects: Objects) -> dict[str, NDArray[np.float64]]:
    """Return ``width``, ``height``, ``aspect`` and ``relative_side`` of the objects that are no crowds, (N,) each."""
    width, height = objects.boxes[~objects.crowd, 2:].T
    image = objects.sizes[objects.images[~objects.crowd]].prod(axis=1)
    side = np.sqrt(width * height / np.maximum(image, 1))
    return {"width": width, "height": height, "aspect": width / height, "relative_side": side}


def _quantiles(values: NDArray[np.float64]) -> dict[str, float]:
    if not len(values):
        return {}
    return {f"{q:g}": float(value) for q, value in zip(QUANTILES, np.quantile(values, QUANTILES), strict=True)}
