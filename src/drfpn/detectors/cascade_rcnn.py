"""Cascade R-CNN and Cascade Mask R-CNN (Cai and Vasconcelos, CVPR 2018) with mmdetection's head sizes."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import clip_boxes_to_image

from drfpn.backbones import TimmBackbone
from drfpn.detectors.faster_rcnn import FasterRCNN, faster_rcnn
from drfpn.detectors.mask_rcnn import add_mask_head
from drfpn.detectors.postprocess import PaddedDetections, apply_deltas
from drfpn.detectors.roi_heads import RoIHeads
from drfpn.necks import Neck
from drfpn.ops import PADDING_SCORE
from drfpn.utils.errors import UsageError


class Stage(NamedTuple):
    """Settings of one stage of the cascade."""

    iou_thresh: float
    """IoU from which an RoI is positive."""
    stds: tuple[float, float, float, float]
    """Standard deviations that deltas (x, y, width, height) are divided by."""
    loss_weight: float
    """Weight of the losses of the stage."""


STAGES = (
    Stage(0.5, (0.1, 0.1, 0.2, 0.2), 1.0),
    Stage(0.6, (0.05, 0.05, 0.1, 0.1), 0.5),
    Stage(0.7, (0.033, 0.033, 0.067, 0.067), 0.25),
)
"""Stages of the paper, with the standard deviations and loss weights of mmdetection."""


class ClassAgnosticBoxPredictor(nn.Module):
    """Predicts class logits and class-agnostic deltas of RoIs.

    The deltas are repeated for each class, since torchvision's loss selects them by class.

    Args:
        in_channels: length of the feature vector of an RoI.
        num_classes: number of foreground classes.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(in_channels, num_classes + 1)
        self.bbox_pred = nn.Linear(in_channels, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map features (R, in_channels) to class logits (R, K + 1) and deltas (R, 4 (K + 1))."""
        x = x.flatten(1)
        return self.cls_score(x), self.bbox_pred(x).repeat(1, self.cls_score.out_features)


class CascadeRoIHeads(nn.Module):
    """A sequence of RoI heads, each of which takes the boxes predicted by the previous one as RoIs.

    In training each stage matches and samples its RoIs again; ground-truth boxes that were added to the RoIs are not
    passed on, as in mmdetection. In inference, scores are averaged over the stages, boxes are those of the last stage,
    and masks are averaged over the stages on these boxes.

    Args:
        stages: RoI heads with a ``ClassAgnosticBoxPredictor``.
        loss_weights: weight of the losses of each stage.
    """

    def __init__(self, stages: list[RoIHeads], loss_weights: list[float]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.loss_weights = loss_weights

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Return no detections and the losses of a batch in training; see :meth:`predict` for inference."""
        assert targets is not None
        losses: dict[str, Tensor] = {}
        stage: Any
        for i, (stage, weight) in enumerate(zip(self.stages, self.loss_weights, strict=True)):
            stage_losses, rois, deltas = stage.compute_losses(features, proposals, image_shapes, targets)
            losses |= {f"{name}_{i}": weight * value for name, value in stage_losses.items()}
            per_image = deltas.detach()[:, :4].split([len(boxes) for boxes in rois])
            proposals = [
                decode_stage(stage, delta, boxes, shape)[~_rows_in(target["boxes"], boxes)]
                for delta, boxes, shape, target in zip(per_image, rois, image_shapes, targets, strict=True)
            ]
        return [], losses

    def predict(
        self, features: dict[str, Tensor], proposals: Tensor, valid: Tensor, images: ImageList
    ) -> PaddedDetections:
        """Return the detections of a batch, see :meth:`drfpn.detectors.roi_heads.RoIHeads.predict`."""
        stages: Any = self.stages
        scores = []
        boxes = proposals
        for stage in stages:
            rois = boxes
            logits, deltas = stage.run_box_head(features, list(rois), images.image_sizes)
            deltas = deltas[:, :4].view(rois.shape)
            scores.append(logits.softmax(-1).view(*valid.shape, -1)[..., 1:])
            per_image = zip(deltas, rois, images.image_sizes, strict=True)
            boxes = torch.stack([decode_stage(stage, *image) for image in per_image])
        mean = torch.where(valid[..., None], torch.stack(scores).mean(0), PADDING_SCORE)
        per_class = deltas[:, :, None].expand(*mean.shape, 4)
        detections: PaddedDetections = stage.postprocess(mean, per_class, rois, images)
        if not stage.has_mask():
            return detections
        masks = [stage.predict_masks(features, detections, images) for stage in stages]
        return detections._replace(masks=torch.stack(masks).mean(0))


def decode_stage(stage: RoIHeads, deltas: Tensor, rois: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return the boxes of a stage's deltas (R, 4) of RoIs (R, 4), clipped to the image of ``shape`` (height, width)."""
    return clip_boxes_to_image(apply_deltas(stage.box_coder, deltas, rois), shape)


def _rows_in(boxes: Tensor, rows: Tensor) -> Tensor:
    """Return for each of ``rows`` (R, 4) whether it is one of ``boxes`` (B, 4)."""
    return (rows[:, None] == boxes[None].to(rows.dtype)).all(-1).any(-1)


def cascade_rcnn(
    body: TimmBackbone, neck: Neck, num_classes: int, *, representation_size: int = 1024, **options: Any
) -> FasterRCNN:
    """Build Cascade R-CNN on a backbone and a neck.

    Args:
        body: backbone.
        neck: neck with a level "pool" or coarser levels of its own.
        num_classes: number of foreground classes, without background; labels are 1..num_classes.
        representation_size: width of the two hidden layers of each box head.
        options: as of :func:`drfpn.detectors.faster_rcnn`, except ``consistent_supervision``.

    Raises:
        UsageError: ``consistent_supervision``, or an option with a wrong value.
    """
    if options.get("consistent_supervision"):
        raise UsageError("`consistent_supervision` is not an option of Cascade R-CNN: use faster_rcnn or mask_rcnn.")
    model = faster_rcnn(body, neck, num_classes, representation_size=representation_size, **options)
    heads = model.roi_heads
    stages = [
        RoIHeads.from_heads(
            heads,
            box_roi_pool=heads.box_roi_pool.with_output_size(7),
            box_head=TwoMLPHead(heads.box_head.fc6.in_features, representation_size),
            box_predictor=ClassAgnosticBoxPredictor(representation_size, num_classes),
            fg_iou_thresh=stage.iou_thresh,
            bg_iou_thresh=stage.iou_thresh,
            bbox_reg_weights=tuple(1 / std for std in stage.stds),
        )
        for stage in STAGES
    ]
    model.roi_heads = CascadeRoIHeads(stages, [stage.loss_weight for stage in STAGES])
    return model


def cascade_mask_rcnn(body: TimmBackbone, neck: Neck, num_classes: int, **options: Any) -> FasterRCNN:
    """Build Cascade Mask R-CNN, with a mask head in each stage, on a backbone and a neck.

    Targets and outputs contain masks as in :func:`drfpn.detectors.mask_rcnn`.

    Args:
        body: backbone.
        neck: neck with a level "pool" or coarser levels of its own.
        num_classes: number of foreground classes, without background; labels are 1..num_classes.
        options: as of :func:`cascade_rcnn`.
    """
    model = cascade_rcnn(body, neck, num_classes, **options)
    for stage in model.roi_stages:
        add_mask_head(stage, neck.out_channels, num_classes)
    return model
