"""``open_dataset``, and ``AnnotatedDataset`` for image files with annotations."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drfpn.data.annotations import Annotations
from drfpn.data.base import DetectionDataset, Target
from drfpn.data.class_matching import match_classes
from drfpn.data.formats.layouts import find_layout
from drfpn.data.image_io import image_size, load_image
from drfpn.data.masks.rle import decode
from drfpn.data.progress import ProgressCallback
from drfpn.data.synthetic.shapes import ShapesDataset
from drfpn.data.validation.boxes import clip_xywh, sanitize_boxes
from drfpn.data.validation.crowds import crowd_warning
from drfpn.data.validation.image_files import image_size_issue, sample_remarks
from drfpn.data.validation.issues import (
    Issue,
    IssueHandler,
    LenientIssueHandler,
    StrictIssueHandler,
    check_on_bad,
    raise_issue,
)
from drfpn.data.validation.masks import sanitize_masks
from drfpn.data.validation.other_formats import other_format_issue
from drfpn.utils.errors import UsageError, UserError, message_of

CROWD = ("ignore", "object")
"""Values of ``crowd`` in ``open_dataset``."""

__all__ = ["AnnotatedDataset", "DetectionDataset", "Target", "open_dataset"]


class AnnotatedDataset(DetectionDataset):
    """Image files with ``Annotations``.

    Boxes that extend beyond their image are clipped in the target, and left as annotated in the ground truth.

    Args:
        annotations: as returned by ``sanitize_boxes``, and by ``sanitize_masks`` if ``masks`` is true.
        masks: include masks in targets and segmentations in the ground truth. A mask is rasterized when its target is
            requested; it may be empty if the polygons are too thin to cover a pixel.
    """

    def __init__(self, annotations: Annotations, *, masks: bool = False) -> None:
        self.annotations = annotations
        self.masks = masks
        self.classes = annotations.classes
        self.category_ids = tuple(annotations.category_ids.tolist())
        self._ground_truth: dict[str, Any] | None = None

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        """Return image and target.

        Raises:
            UserError: the file is missing or damaged, or not of the annotated size.
        """
        image = self.image(index)
        return image, self._target(index, (int(image.shape[1]), int(image.shape[2])))

    def image(self, index: int) -> Tensor:
        """Return image ``index`` without its target; raises as item access does."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        image = load_image(self.annotations.path(index))
        issue = image_size_issue(self.annotations, index, (int(image.shape[1]), int(image.shape[2])))
        if issue is not None:
            raise_issue(issue)
        return image

    def name(self, index: int) -> str:
        """Return the path of image ``index``."""
        return str(self.annotations.path(index))

    def image_id(self, index: int) -> int:
        """Return the id of image ``index``."""
        return int(self.annotations.image_ids[index])

    def sizes(self) -> NDArray[np.int64]:
        """Return the annotated (height, width) of every image, (M, 2)."""
        return self.annotations.sizes

    def num_objects(self) -> int:
        """Return the number of objects, crowds included."""
        return len(self.annotations.boxes)

    def has_objects(self) -> bool:
        """Return whether an image has an object to train on; crowds are none."""
        return not self.annotations.crowd.all()

    def ground_truth(self) -> dict[str, Any]:
        """Return the split as a COCO dict with the numbers as annotated; the same dict each time."""
        if self._ground_truth is None:
            self._ground_truth = self.annotations.to_coco(segmentations=self.masks)
        return self._ground_truth

    def to_annotations(self) -> Annotations:
        """Return the annotations."""
        return self.annotations

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_ground_truth": None}  # workers do not need it

    def _target(self, index: int, size: tuple[int, int]) -> Target:
        objects = self.annotations.object_slice(index)
        boxes = self.annotations.boxes[objects]
        boxes = clip_xywh(boxes, np.full((len(boxes), 2), size, dtype=np.int64))
        boxes[:, 2:] += boxes[:, :2]
        boxes = boxes.astype(np.float32)
        # Also drops boxes that float32 or clipping leaves empty: their losses are not finite.
        keep = (boxes[:, 2:] > boxes[:, :2]).all(axis=1) & ~self.annotations.crowd[objects]
        target = {
            "boxes": torch.from_numpy(boxes[keep]),
            "labels": torch.from_numpy(self.annotations.labels[objects][keep]),
            "image_id": torch.tensor(self.image_id(index)),
            "area": torch.from_numpy(self.annotations.areas[objects][keep].astype(np.float32)),
            "iscrowd": torch.zeros(int(keep.sum()), dtype=torch.int64),
        }
        if self.masks:
            target["masks"] = torch.from_numpy(self._rasterize(objects.start + np.flatnonzero(keep), *size))
        return target

    def _rasterize(self, indices: NDArray[np.int64], height: int, width: int) -> NDArray[np.uint8]:
        """Return the masks (N, H, W) of objects of one image."""
        masks = np.zeros((len(indices), height, width), dtype=np.uint8)
        for mask, index in zip(masks, indices.tolist(), strict=True):
            assert self.annotations.segmentations is not None
            mask[:] = decode(self.annotations.segmentations[index], height, width)
        return masks


def open_dataset(
    data: str,
    split: str = "train",
    *,
    max_images: int | None = None,
    on_bad: str = "error",
    images: str | None = None,
    crowd: str = "ignore",
    classes: Sequence[str] | None = None,
    masks: bool | None = False,
    segmentations: bool = False,
    warn: Callable[[str], None] | None = None,
    progress: ProgressCallback | None = None,
) -> DetectionDataset:
    """Open one split of a data set.

    Args:
        data: ``"shapes"``, or a folder or file in one of the layouts of ``layouts.find_layout``.
        split: name of the split; ``train``, ``val`` and ``test`` for shapes.
        max_images: use only the first ``max_images`` images; ``None`` for all.
        on_bad: what to do with invalid boxes, and with invalid segmentations if there are masks: ``"error"``,
            ``"skip"`` or ``"fix"``; see ``boxes.sanitize_boxes`` and ``masks.sanitize_masks``.
        images: folder of the images, for annotations in one file for each split; ``None`` if it is where the layout has
            it.
        crowd: what COCO's crowds and VOC's difficult objects are: ``"ignore"``, regions that are neither trained on nor
            evaluated, or ``"object"``, objects as all others.
        classes: names of labels 1..K, such as those of a detector; the classes of the split are matched to them by
            name. ``None`` for the classes of the split in the order of their ids.
        masks: include ``masks`` in targets; ``None`` to include them if the data set has segmentations.
        segmentations: keep the segmentations even without masks.
        warn: called with one line for each kind of object that was skipped or fixed, and for what is remarkable about
            the first images: several pages, or 16 bits that are nearly black.
        progress: called with the amount read so far and the total: images if each is annotated in a file of its own
            (VOC, YOLO), MiB for COCO.

    Raises:
        UsageError: ``max_images``, ``on_bad``, ``images`` or ``crowd`` is invalid.
        UserError: there is no such data set or split, or it has an issue, or objects of other ``classes``.
    """
    if crowd not in CROWD:
        raise UsageError(f"`crowd` is '{crowd}', expected 'ignore' or 'object'.")
    if max_images is not None and max_images <= 0:
        raise UsageError(f"`max_images` is {max_images}, expected a number of images above 0.")
    policy = check_on_bad(on_bad)
    if data == "shapes":
        require_no_images(images)
        length = None if max_images is None else min(max_images, len(ShapesDataset(split)))
        shapes = ShapesDataset(split, length, masks=masks is not False)
        if classes is not None and tuple(classes) != shapes.classes:
            raise UserError(f"shapes has the classes {', '.join(shapes.classes)}, expected {', '.join(classes)}.")
        return shapes
    handler = StrictIssueHandler() if policy == "error" else LenientIssueHandler()
    layout = find_layout(data, images)
    annotations = layout.read(split, handler, progress, segmentations=segmentations or masks is not False)
    if annotations is None:
        raise UserError(f"{data}: nothing in the split '{split}' can be used; 'drfpn data check' says why.")
    if max_images is not None:
        annotations = annotations.first(max_images)
    _require_images(annotations)
    if warn is not None and (other := other_format_issue(annotations)) is not None:
        warn(f"{other.summary}.")
    _require_encodable(data, annotations.classes)
    if crowd == "object":
        annotations = replace(annotations, crowd=np.zeros_like(annotations.crowd))
    elif warn is not None and (line := crowd_warning(annotations)) is not None:
        warn(line)
    if classes is not None:
        if warn is not None and set(annotations.classes) != set(classes):
            others = sorted(set(annotations.classes) ^ set(classes))
            warn(f"{annotations.source}: its classes are matched by name; not in both lists: {', '.join(others[:5])}.")
        annotations = match_classes(annotations, classes)
    dropped: list[Issue] = []
    annotations, changes = sanitize_boxes(fill_sizes(annotations, handler), policy, dropped)
    if masks is None:
        masks = annotations.segmentations is not None
    if masks:
        annotations, mask_changes = sanitize_masks(annotations, policy, dropped)
        changes += mask_changes
    if warn is not None:
        for line in (*handler.messages(), *changes, *sample_remarks(annotations)):
            warn(line)
    dataset = AnnotatedDataset(annotations, masks=masks)
    dataset.skipped_objects = (*(handler.skipped if isinstance(handler, LenientIssueHandler) else ()), *dropped)
    return dataset


def require_no_images(images: str | None) -> None:
    """Raise if a folder of images is given for shapes, which are drawn.

    Args:
        images: the folder.

    Raises:
        UsageError: it is not ``None``.
    """
    if images is not None:
        raise UsageError(f"`images` is '{images}', but the images of shapes are drawn, expected no `images`.")


def fill_sizes(annotations: Annotations, on_issue: IssueHandler = raise_issue) -> Annotations:
    """Return annotations with the sizes that are not annotated read from the headers of the images.

    Args:
        annotations: of a split.
        on_issue: called with each missing or damaged image, whose size stays unknown.
    """
    unknown = np.flatnonzero((annotations.sizes <= 0).any(axis=1)).tolist()
    if not unknown:
        return annotations
    sizes = annotations.sizes.copy()
    for index in unknown:
        try:
            sizes[index] = image_size(annotations.path(index))
        except UserError as error:
            path = str(annotations.path(index))
            reason = message_of(error).removeprefix(f"{path} ").partition(", expected")[0].removesuffix(".")
            on_issue(Issue("image-undecodable", path, f"it {reason}", "an image that can be decoded"))
    return replace(annotations, sizes=sizes)


def _require_encodable(data: str, classes: Sequence[str]) -> None:
    """Raise an error if a class name cannot be written to a file: JSON may have one half of a character in UTF-16."""
    for name in classes:
        if any("\ud800" <= character <= "\udfff" for character in name):
            raise UserError(f"{data}: the class name {name!a} has half of a surrogate pair: correct it.")


def _require_images(annotations: Annotations, max_checked: int = 20) -> None:
    """Raise early if the folder of images is empty or another one; single missing files are reported later."""
    names = annotations.file_names[:max_checked].tolist()
    if not any((annotations.root / name).is_file() for name in names):
        state = "" if Path(annotations.root).is_dir() else " (there is no such folder)"
        raise UserError(
            f"{annotations.root} holds none of the first {len(names)} images that {annotations.source} "
            f"lists{state}, expected '{names[0]}' and so on."
        )
