"""Cascade R-CNN (Cai and Vasconcelos, CVPR 2018) with mmdetection's head sizes, on torchvision's classes."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss
from torchvision.ops import clip_boxes_to_image

from drfpn.backbones import TimmBackbone
from drfpn.detectors.faster_rcnn import faster_rcnn
from drfpn.pyramids import Pyramid


class Stage(NamedTuple):
    """What distinguishes a stage of the cascade."""

    iou: float
    """A region belongs to an object from this overlap on."""
    deviations: tuple[float, float, float, float]
    """Standard deviations that deltas (x, y, width, height) are divided by."""
    weight: float
    """Of its losses."""


STAGES = (
    Stage(0.5, (0.1, 0.1, 0.2, 0.2), 1.0),
    Stage(0.6, (0.05, 0.05, 0.1, 0.1), 0.5),
    Stage(0.7, (0.033, 0.033, 0.067, 0.067), 0.25),
)
"""The paper's, as in mmdetection."""


class AgnosticBoxPredictor(nn.Module):
    """Class scores and one set of box deltas of a region, whatever its class.

    The deltas are handed on once for each class, since torchvision's losses and post-processing choose by class.

    Args:
        in_channels: length of a region's feature vector.
        num_classes: foreground classes.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(in_channels, num_classes + 1)
        self.bbox_pred = nn.Linear(in_channels, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Turn features (R, in_channels) into scores (R, K + 1) and deltas (R, 4 (K + 1))."""
        x = x.flatten(1)
        return self.cls_score(x), self.bbox_pred(x).repeat(1, self.cls_score.out_features)


class CascadeHeads(nn.Module):
    """A series of RoIHeads, each of which sees the boxes that the one before it refined.

    In training each stage matches and samples its regions anew; boxes added from the annotations are not refined,
    as in mmdetection. At test the scores are the mean of all stages' and the boxes those of the last.

    Args:
        stages: heads with an ``AgnosticBoxPredictor``.
        weights: of each stage's losses.
    """

    def __init__(self, stages: list[RoIHeads], weights: list[float]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.weights = weights

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Return detections (in evaluation) and losses (in training), as ``RoIHeads`` does."""
        if self.training:
            assert targets is not None
            return [], self._losses(features, proposals, image_shapes, targets)
        scores: list[Tensor] = []
        refined = proposals
        for stage in self.stages:
            proposals = refined
            logits, deltas = _predict(stage, features, proposals, image_shapes)
            scores.append(logits.softmax(-1))
            refined = _refine(stage, deltas, proposals, image_shapes)
        mean = torch.stack(scores).mean(0).log()  # the softmax that follows gives it back
        last: Any = self.stages[-1]
        boxes, scored, labels = last.postprocess_detections(mean, deltas, proposals, image_shapes)
        found = zip(boxes, labels, scored, strict=True)
        return [{"boxes": box, "labels": label, "scores": score} for box, label, score in found], {}

    def _losses(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]],
    ) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = {}
        stage: Any
        for i, (stage, weight) in enumerate(zip(self.stages, self.weights, strict=True)):
            sampled, _, labels, wanted = stage.select_training_samples(proposals, targets)
            logits, deltas = _predict(stage, features, sampled, image_shapes)
            classifier, box_reg = fastrcnn_loss(logits, deltas, labels, wanted)
            losses |= {f"loss_classifier_{i}": weight * classifier, f"loss_box_reg_{i}": weight * box_reg}
            refined = _refine(stage, deltas.detach(), sampled, image_shapes)
            proposals = [
                boxes[~_contains(target["boxes"], before)]
                for boxes, before, target in zip(refined, sampled, targets, strict=True)
            ]
        return losses


def _predict(
    stage: Any, features: dict[str, Tensor], proposals: list[Tensor], image_shapes: list[tuple[int, int]]
) -> tuple[Tensor, Tensor]:
    regions = stage.box_roi_pool(features, proposals, image_shapes)
    return stage.box_predictor(stage.box_head(regions))


def _refine(stage: Any, deltas: Tensor, proposals: list[Tensor], image_shapes: list[tuple[int, int]]) -> list[Tensor]:
    """Apply a stage's deltas (of any one class: they are all the same) to its proposals."""
    boxes = stage.box_coder.decode(deltas[:, :4], proposals).flatten(1)
    per_image = boxes.split([len(p) for p in proposals])
    return [clip_boxes_to_image(b, shape) for b, shape in zip(per_image, image_shapes, strict=True)]


def _contains(boxes: Tensor, rows: Tensor) -> Tensor:
    """Return for each of ``rows`` (R, 4) whether it is one of ``boxes`` (B, 4)."""
    return (rows[:, None] == boxes[None].to(rows.dtype)).all(-1).any(-1)


def cascade_rcnn(
    body: TimmBackbone, neck: Pyramid, num_classes: int, *, representation_size: int = 1024, **options: Any
) -> FasterRCNN:
    """Assemble Cascade R-CNN from a backbone and its pyramid.

    Args: as for :func:`drfpn.detectors.faster_rcnn`.
    """
    model = faster_rcnn(body, neck, num_classes, representation_size=representation_size, **options)
    first = model.roi_heads
    inputs = first.box_head.fc6.in_features
    stages = [
        RoIHeads(
            first.box_roi_pool,
            TwoMLPHead(inputs, representation_size),
            AgnosticBoxPredictor(representation_size, num_classes),
            stage.iou,
            stage.iou,
            first.fg_bg_sampler.batch_size_per_image,
            first.fg_bg_sampler.positive_fraction,
            tuple(1 / deviation for deviation in stage.deviations),
            first.score_thresh,
            first.nms_thresh,
            first.detections_per_img,
        )
        for stage in STAGES
    ]
    model.roi_heads = CascadeHeads(stages, [stage.weight for stage in STAGES])
    return model
