"""Counting what a data set holds."""

from typing import Any

import numpy as np

from drfpn.data.annotations import Annotations
from drfpn.data.base import DetectionDataset
from drfpn.data.dataset import AnnotatedDataset
from drfpn.data.segmentations import Segmentations

SMALL_BELOW, MEDIUM_BELOW = 32**2, 96**2
"""COCO's bounds of areas in pixels."""


def stats(source: DetectionDataset | Annotations) -> dict[str, Any]:
    """Count the images and objects of a split. Crowd regions are counted apart, not among the objects.

    Returns:
        ``images``, ``images_without_objects``, ``objects``, ``crowd``, ``objects_per_class`` (a dict by
        name), ``small``, ``medium``, ``large``: objects by area as COCO divides them, and ``with_polygons``,
        ``with_rle``: objects by the form of their segmentation.
    """
    if isinstance(source, AnnotatedDataset):
        source = source.annotations
    if isinstance(source, Annotations):
        classes, image_count = source.classes, len(source)
        images, labels = source.image_of_object(), source.labels
        areas, crowd = source.areas, source.crowd
        forms = np.full(len(labels), "none") if source.segmentations is None else source.segmentations.forms()
    else:
        classes, image_count = source.classes, len(source)
        label_of = {category_id: label for label, category_id in enumerate(source.category_ids, start=1)}
        records = source.ground_truth()["annotations"]
        images = np.array([record["image_id"] for record in records], dtype=np.int64)
        labels = np.array([label_of[record["category_id"]] for record in records], dtype=np.int64)
        areas = np.array([record["area"] for record in records], dtype=np.float64)
        crowd = np.array([record["iscrowd"] for record in records], dtype=np.bool_)
        forms = Segmentations.pack(record.get("segmentation") for record in records).forms()
    per_class = np.bincount(labels[~crowd], minlength=len(classes) + 1)[1:].tolist()
    small, medium = areas[~crowd] < SMALL_BELOW, areas[~crowd] < MEDIUM_BELOW
    return {
        "images": image_count,
        "images_without_objects": image_count - len(np.unique(images[~crowd])),
        "objects": int((~crowd).sum()),
        "crowd": int(crowd.sum()),
        "objects_per_class": dict(zip(classes, per_class, strict=True)),
        "small": int(small.sum()),
        "medium": int((medium & ~small).sum()),
        "large": int((~medium).sum()),
        "with_polygons": int((forms[~crowd] == "polygons").sum()),
        "with_rle": int((forms[~crowd] == "rle").sum()),
    }
