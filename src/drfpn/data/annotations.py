"""``Annotations``: the images, boxes, labels and masks of a data set as flat arrays."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drfpn.data.masks.segmentations import Segmentations


@dataclass(frozen=True)
class Annotations:
    """Annotations of M images with N objects of K classes.

    Everything is a numpy array, so that forked worker processes use the same memory instead of copying it object by
    object. Objects are sorted by image: those of image i are ``starts[i]`` to ``starts[i + 1]``.
    """

    root: Path
    """Folder that ``file_names`` are relative to."""
    source: Path
    """The file or the folder of annotations; empty for images that are not files."""
    classes: tuple[str, ...]
    """Names of labels 1..K."""
    category_ids: NDArray[np.int64]
    """(K,) id of label k at k - 1."""
    image_ids: NDArray[np.int64]
    """(M,)"""
    file_names: NDArray[np.str_]
    """(M,)"""
    sizes: NDArray[np.int64]
    """(M, 2) height and width as annotated; 0, 0 if not annotated."""
    starts: NDArray[np.int64]
    """(M + 1,) index of the first object of each image, and N."""
    boxes: NDArray[np.float64]
    """(N, 4) x, y, width, height in pixels, exactly as written (COCO's convention)."""
    labels: NDArray[np.int64]
    """(N,) 1..K"""
    areas: NDArray[np.float64]
    """(N,) pixels"""
    crowd: NDArray[np.bool_]
    """(N,) COCO's ``iscrowd``: ignored by the evaluation and not used in training."""
    annotation_ids: NDArray[np.int64]
    """(N,) at least 1: COCO's evaluation takes 0 for "matched nothing"."""
    segmentations: Segmentations | None = None
    """As written, or ``None`` if no object has one."""
    annotation_files: NDArray[np.str_] | None = None
    """(M,) the file that annotates each image, if it does not follow from ``source``."""
    merged_category_ids: Mapping[int, int] = field(default_factory=dict)
    """For each id of a category that was merged with one of the same name the id of that."""

    def __len__(self) -> int:
        return len(self.image_ids)

    def path(self, index: int) -> Path:
        """Return the file of image ``index``."""
        return self.root / str(self.file_names[index])

    def annotation_file(self, index: int) -> Path:
        """Return the file that annotates image ``index``."""
        if self.annotation_files is not None:
            return Path(str(self.annotation_files[index]))
        if self.source.suffix:
            return self.source
        return self.source / f"{Path(str(self.file_names[index])).stem}.xml"

    def object_slice(self, index: int) -> slice:
        """Return the slice of image ``index`` in the arrays of objects."""
        return slice(int(self.starts[index]), int(self.starts[index + 1]))

    def image_indices(self) -> NDArray[np.int64]:
        """Return the index of the image of each object, (N,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def describe_object(self, index: int, image_index: int) -> str:
        """Return a description of an object for messages: file, annotation id, image and its size.

        Args:
            index: index of the object.
            image_index: index of its image.
        """
        height, width = self.sizes[image_index].tolist()
        size = f"{width} x {height} px" if height and width else "size unknown"
        annotation = f"{self.annotation_file(image_index)}: annotation {self.annotation_ids[index]} of image "
        return annotation + f"'{self.file_names[image_index]}' ({size})"

    def first(self, count: int) -> "Annotations":
        """Return the first ``count`` images with their objects."""
        end = int(self.starts[min(count, len(self))])
        images = replace(
            self,
            image_ids=self.image_ids[:count],
            file_names=self.file_names[:count],
            sizes=self.sizes[:count],
            annotation_files=None if self.annotation_files is None else self.annotation_files[:count],
        )
        return replace(images, **self._objects_at(np.arange(end)), starts=self.starts[: count + 1])

    def select_images(self, indices: NDArray[np.int64]) -> "Annotations":
        """Return the images of ``indices`` (L,), which are in ascending order, with their objects and ids."""
        counts = np.diff(self.starts)
        kept = np.zeros(len(self), dtype=np.bool_)
        kept[indices] = True
        images = replace(
            self,
            image_ids=self.image_ids[indices],
            file_names=self.file_names[indices],
            sizes=self.sizes[indices],
            annotation_files=None if self.annotation_files is None else self.annotation_files[indices],
        )
        starts = np.concatenate([[0], np.cumsum(counts[indices])]).astype(np.int64)
        return replace(images, **self._objects_at(np.flatnonzero(np.repeat(kept, counts))), starts=starts)

    def select_objects(self, mask: NDArray[np.bool_]) -> "Annotations":
        """Return all images, with the objects where ``mask`` (N,) is true."""
        starts = np.concatenate([[0], np.cumsum(mask)])[self.starts].astype(np.int64)
        return replace(self, **self._objects_at(np.flatnonzero(mask)), starts=starts)

    def to_coco(self, *, segmentations: bool = True) -> dict[str, Any]:
        """Return the annotations as a COCO dict, with the numbers exactly as read.

        A category that others were merged with has their ids as ``merged_ids``.

        Args:
            segmentations: include the segmentations.
        """
        images = [
            {"id": image_id, "file_name": name, "height": height, "width": width}
            for image_id, name, (height, width) in zip(
                self.image_ids.tolist(), self.file_names.tolist(), self.sizes.tolist(), strict=True
            )
        ]
        categories: list[dict[str, Any]] = [
            {"id": category_id, "name": name}
            for category_id, name in zip(self.category_ids.tolist(), self.classes, strict=True)
        ]
        for merged_id, category_id in self.merged_category_ids.items():
            index = self.category_ids.tolist().index(category_id)
            categories[index].setdefault("merged_ids", []).append(merged_id)
        return {"images": images, "annotations": list(self._coco_annotations(segmentations)), "categories": categories}

    def _objects_at(self, indices: NDArray[np.int64]) -> dict[str, Any]:
        return {
            "boxes": self.boxes[indices],
            "labels": self.labels[indices],
            "areas": self.areas[indices],
            "crowd": self.crowd[indices],
            "annotation_ids": self.annotation_ids[indices],
            "segmentations": self.segmentations and self.segmentations.select(indices),
        }

    def _coco_annotations(self, segmentations: bool) -> Iterator[dict[str, Any]]:
        image_ids = np.repeat(self.image_ids, np.diff(self.starts)).tolist()
        category_ids = self.category_ids[self.labels - 1].tolist()
        for index, image_id in enumerate(image_ids):
            annotation = {
                "id": int(self.annotation_ids[index]),
                "image_id": image_id,
                "category_id": category_ids[index],
                "bbox": self.boxes[index].tolist(),
                "area": float(self.areas[index]),
                "iscrowd": int(self.crowd[index]),
            }
            if segmentations and self.segmentations is not None:
                segmentation = self.segmentations[index]
                if segmentation is not None:
                    annotation["segmentation"] = segmentation
            yield annotation
