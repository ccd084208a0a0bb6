"""Cascade R-CNN (Cai and Vasconcelos, CVPR 2018), with masks too, with mmdetection's head sizes."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import clip_boxes_to_image

from drfpn.backbones import TimmBackbone
from drfpn.detectors.faster_rcnn import FasterRCNN, faster_rcnn, make_roi_heads
from drfpn.detectors.mask_rcnn import add_masks
from drfpn.detectors.postprocess import PaddedDetections
from drfpn.detectors.roi_heads import RoIHeads
from drfpn.detectors.rpn import decode
from drfpn.necks import Neck
from drfpn.ops import PADDING_SCORE
from drfpn.utils.errors import UserError


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

    The deltas are handed on once for each class, since torchvision's loss chooses by class.

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
    """A series of heads, each of which sees the boxes that the one before it refined.

    In training each stage matches and samples its regions anew; boxes added from the annotations are not refined,
    as in mmdetection. At test the scores are the mean of all stages', the boxes those of the last, and the masks
    the mean of all stages' on these boxes.

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
        """Return the losses of a batch in training."""
        assert targets is not None
        losses: dict[str, Tensor] = {}
        stage: Any
        for i, (stage, weight) in enumerate(zip(self.stages, self.weights, strict=True)):
            terms, sampled, deltas = stage.losses(features, proposals, image_shapes, targets)
            losses |= {f"{name}_{i}": weight * value for name, value in terms.items()}
            per_image = deltas.detach()[:, :4].split([len(regions) for regions in sampled])
            proposals = [
                refine(stage, delta, regions, shape)[~_contains(target["boxes"], regions)]
                for delta, regions, shape, target in zip(per_image, sampled, image_shapes, targets, strict=True)
            ]
        return [], losses

    def find(self, features: dict[str, Tensor], regions: Tensor, real: Tensor, images: ImageList) -> PaddedDetections:
        """Return what the regions (N, R, 4) show; ``real`` (N, R) says which of them do not only fill up."""
        stages: Any = self.stages
        scores = []
        refined = regions
        for stage in stages:
            regions = refined
            logits, deltas = stage.predict(features, list(regions), images.image_sizes)
            deltas = deltas[:, :4].view(regions.shape)
            scores.append(logits.softmax(-1).view(*real.shape, -1)[..., 1:])
            moved = zip(deltas, regions, images.image_sizes, strict=True)
            refined = torch.stack([refine(stage, *image) for image in moved])
        mean = torch.where(real[..., None], torch.stack(scores).mean(0), PADDING_SCORE)
        found: PaddedDetections = stage.choose(mean, deltas[:, :, None].expand(*mean.shape, 4), regions, images)
        if not stage.has_mask():
            return found
        masks = [stage.masks(features, found, images) for stage in stages]
        return found._replace(masks=torch.stack(masks).mean(0))


def refine(stage: RoIHeads, deltas: Tensor, regions: Tensor, shape: tuple[int, int]) -> Tensor:
    """Apply a stage's deltas (R, 4) to its regions (R, 4) of an image of ``shape``."""
    return clip_boxes_to_image(decode(stage.box_coder, deltas, regions), shape)


def _contains(boxes: Tensor, rows: Tensor) -> Tensor:
    """Return for each of ``rows`` (R, 4) whether it is one of ``boxes`` (B, 4)."""
    return (rows[:, None] == boxes[None].to(rows.dtype)).all(-1).any(-1)


def cascade_rcnn(
    body: TimmBackbone, neck: Neck, num_classes: int, *, representation_size: int = 1024, **options: Any
) -> FasterRCNN:
    """Assemble Cascade R-CNN from a backbone and its pyramid.

    Args: as for :func:`drfpn.detectors.faster_rcnn`, but without ``consistent_supervision``.

    Raises:
        UserError: that option, or one of a wrong value.
    """
    if options.get("consistent_supervision"):
        said = "'consistent_supervision' is not an option of Cascade R-CNN: use faster_rcnn or mask_rcnn."
        raise UserError(said, exit_code=2)
    model = faster_rcnn(body, neck, num_classes, representation_size=representation_size, **options)
    first = model.roi_heads
    stages = [
        make_roi_heads(
            first,
            box_roi_pool=first.box_roi_pool.resized(7),
            box_head=TwoMLPHead(first.box_head.fc6.in_features, representation_size),
            box_predictor=AgnosticBoxPredictor(representation_size, num_classes),
            fg_iou_thresh=stage.iou,
            bg_iou_thresh=stage.iou,
            bbox_reg_weights=tuple(1 / deviation for deviation in stage.deviations),
        )
        for stage in STAGES
    ]
    model.roi_heads = CascadeHeads(stages, [stage.weight for stage in STAGES])
    return model


def cascade_mask_rcnn(body: TimmBackbone, neck: Neck, num_classes: int, **options: Any) -> FasterRCNN:
    """Assemble Cascade Mask R-CNN, a mask branch for each stage, from a backbone and its pyramid.

    Args: as for :func:`drfpn.detectors.faster_rcnn`; targets and outputs as of :func:`drfpn.detectors.mask_rcnn`.
    """
    model = cascade_rcnn(body, neck, num_classes, **options)
    for stage in model.roi_heads.stages:
        add_masks(stage, neck.out_channels, num_classes)
    return model
