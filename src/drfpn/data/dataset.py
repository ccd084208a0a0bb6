"""From the name of a data set to a ``DetectionDataset``."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drfpn.data.annotations import Annotations
from drfpn.data.base import DetectionDataset, Target
from drfpn.data.formats.layouts import find_layout
from drfpn.data.image_io import image_size, load_image
from drfpn.data.masks.rle import decode
from drfpn.data.synthetic.shapes import ShapesDataset
from drfpn.data.validation.boxes import OnBad, clean, clip_xywh
from drfpn.data.validation.image_files import size_problem
from drfpn.data.validation.masks import clean_masks
from drfpn.data.validation.problems import LenientReport, Problem, Progress, Report, StrictReport, raise_problem
from drfpn.utils.errors import UserError, message_of

__all__ = ["AnnotatedDataset", "DetectionDataset", "Target", "open_dataset"]


class AnnotatedDataset(DetectionDataset):
    """Image files with ``Annotations``.

    Boxes that overhang their image are clipped in the target, and left as annotated in the ground truth.
    """

    def __init__(self, annotations: Annotations, *, masks: bool = False) -> None:
        """Make a data set.

        Args:
            annotations: That ``boxes.clean`` has accepted, and ``masks.clean_masks`` where masks are wanted.
            masks: Whether targets have masks and the ground truth has segmentations. A mask is drawn when its
                target is asked for; one may be empty, where the polygons are too thin to cover a pixel.
        """
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
            UserError: The file is missing or damaged, or not of the annotated size.
        """
        image = self.image(index)
        return image, self._target(index, (int(image.shape[1]), int(image.shape[2])))

    def image(self, index: int) -> Tensor:
        """Return image ``index`` alone; raises as item access does."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        image = load_image(self.annotations.path(index))
        problem = size_problem(self.annotations, index, (int(image.shape[1]), int(image.shape[2])))
        if problem is not None:
            raise_problem(problem)
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

    def objects(self) -> int:
        """Return how many objects there are, crowd regions included."""
        return len(self.annotations.boxes)

    def ground_truth(self) -> dict[str, Any]:
        """Return the split as a COCO dict with the numbers as annotated: the same dict each time."""
        if self._ground_truth is None:
            self._ground_truth = self.annotations.to_coco(segmentations=self.masks)
        return self._ground_truth

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_ground_truth": None}  # workers do not need it

    def _target(self, index: int, size: tuple[int, int]) -> Target:
        objects = self.annotations.objects(index)
        boxes = self.annotations.boxes[objects]
        boxes = clip_xywh(boxes, np.full((len(boxes), 2), size, dtype=np.int64))
        boxes[:, 2:] += boxes[:, :2]
        boxes = boxes.astype(np.float32)
        # Also without boxes that float32 or clipping leaves empty: their losses are not finite.
        keep = (boxes[:, 2:] > boxes[:, :2]).all(axis=1) & ~self.annotations.crowd[objects]
        target = {
            "boxes": torch.from_numpy(boxes[keep]),
            "labels": torch.from_numpy(self.annotations.labels[objects][keep]),
            "image_id": torch.tensor(self.image_id(index)),
            "area": torch.from_numpy(self.annotations.areas[objects][keep].astype(np.float32)),
            "iscrowd": torch.zeros(int(keep.sum()), dtype=torch.int64),
        }
        if self.masks:
            target["masks"] = torch.from_numpy(self._draw(objects.start + np.flatnonzero(keep), *size))
        return target

    def _draw(self, indices: NDArray[np.int64], height: int, width: int) -> NDArray[np.uint8]:
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
    first: int | None = None,
    on_bad: str = "error",
    masks: bool | None = False,
    segmentations: bool = False,
    warn: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> DetectionDataset:
    """Open one split of a data set.

    Args:
        data: ``"shapes"``, or a folder or YAML file in one of the layouts of ``layouts.find_layout``.
        split: Its name; ``train``, ``val`` and ``test`` for shapes.
        first: Take only so many images, from the start.
        on_bad: What to do with boxes, and segmentations where they are wanted, that cannot be trained on:
            ``"error"``, ``"skip"`` or ``"fix"``; see ``boxes.clean`` and ``masks.clean_masks``.
        masks: Whether targets have ``masks``; ``None`` for where the data set has segmentations.
        segmentations: Whether they are kept though no masks are wanted.
        warn: Receives one line for each thing that was skipped or fixed.
        progress: Is called with how much was read so far, and of all: images whose annotations are in files of
            their own (VOC, YOLO), or MiB (COCO).

    Raises:
        UserError: There is no such data set or split, or it has a fault.
    """
    if first is not None and first <= 0:
        raise UserError(f"first is {first}, expected a number of images above 0.", exit_code=2)
    if on_bad not in get_args(OnBad):
        raise UserError(f"on_bad is '{on_bad}', expected 'error', 'skip' or 'fix'.", exit_code=2)
    if data == "shapes":
        length = None if first is None else min(first, len(ShapesDataset(split)))
        return ShapesDataset(split, length, masks=masks is not False)
    report = StrictReport() if on_bad == "error" else LenientReport()
    annotations = find_layout(data).read(split, report, progress, segmentations=segmentations or masks is not False)
    if annotations is None:
        raise UserError(f"{data}: nothing in the split '{split}' can be used; 'drfpn data check' says why.")
    if first is not None:
        annotations = annotations.first(first)
    _require_images(annotations)
    dropped: list[Problem] = []
    annotations, lines = clean(fill_sizes(annotations, report), cast(OnBad, on_bad), dropped)
    if masks is None:
        masks = annotations.segmentations is not None
    if masks:
        annotations, more = clean_masks(annotations, cast(OnBad, on_bad), dropped)
        lines += more
    for line in (*report.lines(), *lines) if warn else ():
        cast(Callable[[str], None], warn)(line)
    dataset = AnnotatedDataset(annotations, masks=masks)
    dataset.left_out = (*(report.left_out if isinstance(report, LenientReport) else ()), *dropped)
    return dataset


def fill_sizes(annotations: Annotations, report: Report = raise_problem) -> Annotations:
    """Take the sizes that the annotations leave out from the headers of the images.

    Args:
        annotations: Of a split.
        report: Receives images that are missing or damaged, whose sizes stay unknown.
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
            report(Problem("image-undecodable", path, f"it {reason}", "an image that can be decoded"))
    return replace(annotations, sizes=sizes)


def _require_images(annotations: Annotations, tries: int = 20) -> None:
    """Fail early where the folder of images is empty or another one; single missing files are found later."""
    names = annotations.file_names[:tries].tolist()
    if not any((annotations.root / name).is_file() for name in names):
        state = "" if Path(annotations.root).is_dir() else " (there is no such folder)"
        raise UserError(
            f"{annotations.root} holds none of the first {len(names)} images that {annotations.source} "
            f"lists{state}, expected '{names[0]}' and so on."
        )
