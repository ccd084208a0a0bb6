"""Contact sheet of annotated images of a data set, to see at once whether its boxes are right."""

from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import resize

from drfpn.data.annotations import Annotations
from drfpn.data.image_io import load_image
from drfpn.data.progress import ProgressCallback
from drfpn.utils.errors import UserError
from drfpn.visualization.boxes import contact_sheet, draw_boxes, side_by_side

CELL = 480
"""Longer side of a picture on the sheet, pixels."""


def choose_samples(annotations: Annotations, count: int, flagged: Collection[int] = ()) -> list[int]:
    """Return the indices of images to look at: half of them with an issue, then one of each class, then others.

    Args:
        annotations: of a split.
        count: number of images, at most.
        flagged: indices of the images that have an issue.
    """
    chosen = dict.fromkeys(sorted(flagged)[: max(1, count // 2)])
    labels = [set(annotations.labels[annotations.object_slice(i)].tolist()) for i in range(len(annotations))]
    shown = set[int]().union(*(labels[index] for index in chosen))
    for index in range(len(annotations)):  # the first image that shows a class that none before it does
        if labels[index] - shown and len(chosen) < count:
            chosen[index] = None
            shown |= labels[index]
    rest = [index for index in range(len(annotations)) if index not in chosen]
    rest.sort(key=lambda index: not labels[index])
    with_objects = sum(bool(labels[index]) for index in rest)
    pool = rest[:with_objects] or rest
    spread = np.linspace(0, len(pool) - 1, min(len(pool), max(0, count - len(chosen)))).round().astype(int)
    chosen |= dict.fromkeys(pool[position] for position in spread.tolist())
    return sorted(list(chosen)[:count])


def draw_samples(
    splits: Mapping[str, Annotations],
    count: int = 12,
    flagged: Mapping[str, Collection[int]] | None = None,
    progress: ProgressCallback | None = None,
) -> Image.Image | None:
    """Draw images of each split with their boxes and class names, below their names; images that fail are left out.

    Args:
        splits: annotations by split.
        count: number of images of each split, at most.
        flagged: indices of the images that have an issue, by split; they are preferred.
        progress: called with the number of images done so far and the total.

    Returns:
        The sheet; ``None`` if no image can be drawn.
    """
    flagged = flagged or {}
    chosen = [(split, i) for split in splits for i in choose_samples(splits[split], count, flagged.get(split, ()))]
    pictures = []
    for done, (split, index) in enumerate(chosen, start=1):
        annotations = splits[split]
        with suppress(UserError):
            image = load_image(annotations.path(index))
            title = f"{split}: {Path(str(annotations.file_names[index])).name}"
            pictures.append(side_by_side([_draw(image, annotations, index)], [title]))
        if progress is not None:
            progress(done, len(chosen))
    return contact_sheet(pictures) if pictures else None


def _draw(image: Tensor, annotations: Annotations, index: int) -> Image.Image:
    """Draw one image with its boxes, resized to its cell; boxes that are not finite are left out."""
    scale = CELL / max(image.shape[1:])
    size = [max(1, round(side * scale)) for side in image.shape[1:]]
    objects = annotations.object_slice(index)
    boxes = annotations.boxes[objects]
    finite = np.isfinite(boxes).all(axis=1)
    boxes = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:].clip(min=0)], axis=1)[finite] * scale
    limits = np.array([size[1], size[0]] * 2)
    labels = torch.from_numpy(annotations.labels[objects][finite])
    clipped = torch.from_numpy(boxes.clip(0, limits)).float()
    return draw_boxes(resize(image, size), clipped, labels, annotations.classes, min_side=0)
