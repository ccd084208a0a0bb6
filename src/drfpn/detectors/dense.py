"""The evaluation that one-stage detectors share: every point of every level is a candidate."""

from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import clip_boxes_to_image

from drfpn.detectors.inference import Found, level_anchors, rows
from drfpn.ops import NOTHING, suppress, top


def find_dense(model: Any, features: dict[str, Tensor], images: ImageList, scores: Tensor, deltas: Tensor) -> Found:
    """Return the best boxes of each image: the best of every level, suppressed class by class.

    Args:
        model: anchors, box coder and settings, under torchvision's names.
        features: levels, finest first.
        images: batch and sizes of the images in it.
        scores: (N, A, K) in 0..1, of the anchors of all levels.
        deltas: (N, A, 4)
    """
    anchors = level_anchors(model.anchor_generator, list(features.values()), images.tensors.shape[-2:])
    lengths = [level.shape[0] for level in anchors]  # len() would make a symbol a number
    classes = scores.shape[-1]
    chosen = []
    for around, score, delta in zip(anchors, scores.split(lengths, dim=1), deltas.split(lengths, dim=1), strict=True):
        score, index = top(torch.where(score > model.score_thresh, score, NOTHING).flatten(1), model.topk_candidates)
        anchor = index // classes
        chosen.append((model.decode(rows(delta, anchor), around[anchor]), score, index % classes))
    candidates = [torch.cat(parts, dim=1) for parts in zip(*chosen, strict=True)]
    found = [_keep(model, *image) for image in zip(*candidates, images.image_sizes, strict=True)]
    return Found(*(torch.stack(parts) for parts in zip(*found, strict=True)))


def _keep(
    model: Any, boxes: Tensor, scores: Tensor, classes: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    boxes = clip_boxes_to_image(boxes, size)
    scores, index = suppress(boxes, scores, classes, model.nms_thresh, model.detections_per_img)
    return boxes[index], scores, classes[index] + 1
