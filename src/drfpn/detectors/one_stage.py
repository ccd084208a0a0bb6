"""The evaluation that one-stage detectors share: every point of every level is a candidate."""

from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList

from drfpn.detectors.postprocess import PaddedDetections, rows
from drfpn.ops import PADDING_SCORE, batched_padded_nms, padded_topk


def postprocess_dense(
    model: Any, features: dict[str, Tensor], images: ImageList, scores: Tensor, deltas: Tensor
) -> PaddedDetections:
    """Return the best boxes of each image: the best of every level, suppressed class by class.

    Args:
        model: anchors, box coder and settings, under torchvision's names.
        features: levels, finest first.
        images: batch and sizes of the images in it.
        scores: (N, A, K) in 0..1, of the anchors of all levels.
        deltas: (N, A, 4)
    """
    anchors = model.anchor_generator.of_levels(list(features.values()), images.tensors.shape[-2:])
    lengths = [level.shape[0] for level in anchors]  # len() would make a symbol a number
    classes = scores.shape[-1]
    chosen = []
    for around, score, delta in zip(anchors, scores.split(lengths, dim=1), deltas.split(lengths, dim=1), strict=True):
        score, index = padded_topk(
            torch.where(score > model.score_thresh, score, PADDING_SCORE).flatten(1), model.topk_candidates
        )
        anchor = index // classes
        chosen.append((model.decode(rows(delta, anchor), around[anchor]), score, index % classes))
    boxes, scores, labels = (torch.cat(parts, dim=1) for parts in zip(*chosen, strict=True))
    boxes, scores, labels = batched_padded_nms(
        boxes, scores, labels, images.image_sizes, iou=model.nms_thresh, count=model.detections_per_img
    )
    return PaddedDetections(boxes, scores, labels + 1)
