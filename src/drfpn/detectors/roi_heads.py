"""RoI heads of the two-stage detectors: RoI pooling, classification, box regression and masks."""

from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torchvision.models.detection import roi_heads as torchvision_roi_heads
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops._utils import convert_boxes_to_roi_format
from torchvision.ops.poolers import LevelMapper

from drfpn.detectors.losses import BoxLoss, roi_losses, smooth_l1
from drfpn.detectors.postprocess import PaddedDetections, apply_deltas, gather_rows
from drfpn.detectors.samplers import SAMPLERS
from drfpn.necks.base import Level
from drfpn.ops import PADDING_SCORE, batched_padded_nms, padded_topk, replace_nan, roi_align
from drfpn.utils import distributed

PRE_NMS_TOP_N = 2000
"""Largest number of boxes of an image, over all classes, that NMS is applied to."""
MIN_BOX_SIDE = 1e-2
"""Shortest side of a box, pixels (torchvision's)."""


def boxes_to_rois(boxes: list[Tensor]) -> Tensor:
    """Return the boxes (R, 4) of all images as one tensor of RoIs (R, 5): index of the image, x1, y1, x2, y2.

    NaN and infinite coordinates, which diverged weights predict, cause out-of-bounds reads in RoIAlign: they become
    finite.
    """
    return replace_nan(convert_boxes_to_roi_format(boxes))


class RoIPool(MultiScaleRoIAlign):
    """torchvision's RoIAlign on the level of each RoI's size, with given strides and in a form that can be exported.

    torchvision infers the strides from the first image of a batch, wrongly if it is much smaller than its padded batch.

    Args:
        levels: names and strides of the levels that RoIs are pooled from, finest first; each stride is twice the one
            before.
        output_size: height and width of the pooled features.
    """

    def __init__(self, levels: Sequence[Level], output_size: int) -> None:
        finest = levels[0].stride.bit_length() - 1
        super().__init__([level.name for level in levels], output_size, sampling_ratio=2)
        self.levels = tuple(levels)
        self.scales = [1 / level.stride for level in levels]
        self.map_levels = LevelMapper(finest, finest + len(levels) - 1, self.canonical_scale, self.canonical_level)

    @property
    def selector(self) -> nn.Module | None:
        """Module that predicts the weights of the levels from the pooled features of all; ``None``: one level each."""
        return None

    def with_output_size(self, output_size: int) -> "RoIPool":
        """Return a new pool of the same type with another output size, and with parameters of its own if it has any."""
        return RoIPool(self.levels, output_size)

    def forward(self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        """Pool the features of the RoIs of a batch.

        Args:
            x: levels (N, C, H, W) by name.
            boxes: (r, 4) per image, pixels of the padded batch.
            image_shapes: height and width of each image; not used.

        Returns:
            (R, C, output_size, output_size) of the RoIs of all images.
        """
        levels = [x[name] for name in self.featmap_names]
        rois = boxes_to_rois(boxes)
        level_of_roi = self.map_levels(boxes)
        pooled = levels[0].new_zeros(rois.shape[0], levels[0].shape[1], *self.output_size)
        for i, (level, scale) in enumerate(zip(levels, self.scales, strict=True)):
            # index_select and index_copy_ hold for any number of RoIs in a graph, indexing only for two or more
            index = (level_of_roi == i).nonzero().squeeze(1)
            crops = self.pool_level(level, rois.index_select(0, index), scale)
            pooled.index_copy_(0, index, crops.to(pooled.dtype))
        return pooled

    def pool_level(self, level: Tensor, rois: Tensor, scale: float) -> Tensor:
        """Pool RoIs from one level.

        Args:
            level: (N, C, H, W).
            rois: (R, 5), see :func:`boxes_to_rois`; float32, since half precision would move them by pixels.
            scale: 1 / stride of the level.

        Returns:
            (R, C, output_size, output_size) in the dtype of the level.
        """
        return roi_align(level, rois, self.output_size[0], scale, self.sampling_ratio).to(level.dtype)


class RoIHeads(torchvision_roi_heads.RoIHeads):
    """torchvision's RoI heads, with masks for foreground classes only, and inference in tensors of fixed size.

    ``mask_predictor`` returns (R, K, M, M): label k is channel k - 1. With several processes, losses are scaled so
    that their mean over the processes is the loss of the whole batch.

    Args:
        batch_size_per_image: RoIs of each image that the losses are computed from.
        positive_fraction: largest fraction of positives among them.
        sampler: makes the sampler of these RoIs, a value of ``SAMPLERS``.
        box_loss: loss of the deltas of positive RoIs, a value of ``BOX_LOSSES``.
        auxiliary: returns further losses of the sampled RoIs by name, called with (levels, RoIs, labels, regression
            targets, ``box_loss``).
        settings: further arguments of torchvision's class.
    """

    def __init__(
        self,
        *,
        batch_size_per_image: int,
        positive_fraction: float,
        sampler: Callable[[int, float, float], Any] = SAMPLERS["random"],
        box_loss: BoxLoss = smooth_l1,
        auxiliary: nn.Module | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(batch_size_per_image=batch_size_per_image, positive_fraction=positive_fraction, **settings)
        self.sampler = sampler
        self.fg_bg_sampler: Any = sampler(batch_size_per_image, positive_fraction, settings["bg_iou_thresh"])
        self.box_loss = box_loss
        self.auxiliary = auxiliary

    @classmethod
    def from_heads(cls, heads: torchvision_roi_heads.RoIHeads, **changes: Any) -> Self:
        """Return new RoI heads with the modules and settings of others, except for ``changes``.

        Args:
            heads: RoI heads of torchvision or of this class.
            changes: arguments of this class.
        """
        settings = {
            "box_roi_pool": heads.box_roi_pool,
            "box_head": heads.box_head,
            "box_predictor": heads.box_predictor,
            "fg_iou_thresh": heads.proposal_matcher.high_threshold,
            "bg_iou_thresh": heads.proposal_matcher.low_threshold,
            "batch_size_per_image": heads.fg_bg_sampler.batch_size_per_image,
            "positive_fraction": heads.fg_bg_sampler.positive_fraction,
            "bbox_reg_weights": heads.box_coder.weights,
            "score_thresh": heads.score_thresh,
            "nms_thresh": heads.nms_thresh,
            "detections_per_img": heads.detections_per_img,
        }
        if isinstance(heads, RoIHeads):
            settings |= {"sampler": heads.sampler, "box_loss": heads.box_loss}
        return cls(**settings | changes)

    @property
    def stages(self) -> Sequence["RoIHeads"]:
        """The heads of each stage: these alone."""
        return (self,)

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Return no detections and the losses of a batch in training; see :meth:`predict` for inference."""
        assert targets is not None
        losses, _, _ = self.compute_losses(features, proposals, image_shapes, targets)
        return [], losses

    def compute_losses(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]],
    ) -> tuple[dict[str, Tensor], list[Tensor], Tensor]:
        """Compute the losses of a batch.

        Args:
            features: levels (N, C, H, W) by name.
            proposals: (P, 4) per image, pixels of the padded batch.
            image_shapes: height and width of each image in the batch.
            targets: ground truth of each image, resized as its image.

        Returns:
            Losses by name, the sampled RoIs (r, 4) per image, and their predicted deltas (R, 4 (K + 1)).
        """
        rois, matched_idxs, labels, regression_targets = self.select_training_samples(proposals, targets)
        logits, deltas = self.run_box_head(features, rois, image_shapes)
        classifier, box_reg = roi_losses(logits, deltas, labels, regression_targets, self.box_loss)
        scale = distributed.loss_scale(len(logits), device=logits.device)
        losses = {"loss_classifier": classifier * scale, "loss_box_reg": box_reg * scale}
        if self.auxiliary is not None:
            auxiliary_losses = self.auxiliary(features, rois, labels, regression_targets, self.box_loss)
            losses |= {name: value * scale for name, value in auxiliary_losses.items()}
        if self.has_mask():
            positive = [label > 0 for label in labels]
            positive_rois = [boxes[mask] for boxes, mask in zip(rois, positive, strict=True)]
            loss_mask = torchvision_roi_heads.maskrcnn_loss(
                self.run_mask_head(features, positive_rois, image_shapes),
                positive_rois,
                [target["masks"] for target in targets],
                [target["labels"] - 1 for target in targets],
                [index[mask] for index, mask in zip(matched_idxs, positive, strict=True)],
            )
            count = sum(map(len, positive_rois))
            losses["loss_mask"] = loss_mask * distributed.loss_scale(count, device=logits.device)
        return losses, rois, deltas

    def select_training_samples(
        self, proposals: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
        """Sample RoIs for the losses, as torchvision does, but with a sampler that may use the boxes too.

        Args:
            proposals: (P, 4) per image; the ground-truth boxes are added to them.
            targets: ground truth of each image.

        Returns:
            Per image: RoIs (r, 4), indices (r,) of their ground-truth boxes, labels (r,), target deltas (r, 4).
        """
        self.check_targets(targets)
        gt_boxes = [target["boxes"].to(proposals[0].dtype) for target in targets]
        rois = self.add_gt_proposals(proposals, gt_boxes)
        gt_labels = [target["labels"] for target in targets]
        matched_idxs, labels = self.assign_targets_to_proposals(rois, gt_boxes, gt_labels)
        sampled = [
            (positive | negative).nonzero().squeeze(1)
            for positive, negative in zip(*self.fg_bg_sampler(labels, matched_idxs, rois, gt_boxes), strict=True)
        ]
        rois, matched_idxs, labels = (
            [of_image[index] for of_image, index in zip(values, sampled, strict=True)]
            for values in (rois, matched_idxs, labels)
        )
        matched_boxes = [
            boxes[index] if len(boxes) else torch.zeros_like(roi)
            for boxes, index, roi in zip(gt_boxes, matched_idxs, rois, strict=True)
        ]
        return rois, matched_idxs, labels, self.box_coder.encode(matched_boxes, rois)

    def predict(
        self, features: dict[str, Tensor], proposals: Tensor, valid: Tensor, images: ImageList
    ) -> PaddedDetections:
        """Return the detections of a batch.

        Args:
            features: levels (N, C, H, W) by name.
            proposals: (N, P, 4) in pixels of the padded batch.
            valid: (N, P), false for padding.
            images: padded batch, and the sizes of its images.
        """
        logits, deltas = self.run_box_head(features, list(proposals), images.image_sizes)
        shape = *valid.shape, logits.shape[-1]
        scores = torch.where(valid[..., None], logits.softmax(-1).view(shape)[..., 1:], PADDING_SCORE)
        detections = self.postprocess(scores, deltas.view(*shape, 4)[:, :, 1:], proposals, images)
        if not self.has_mask():
            return detections
        return detections._replace(masks=self.predict_masks(features, detections, images))

    def run_box_head(
        self, features: dict[str, Tensor], rois: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> tuple[Tensor, Tensor]:
        """Return class logits (R, K + 1) and deltas (R, 4 (K + 1)) of the RoIs (r, 4) of each image, in float32."""
        logits, deltas = self.box_predictor(self.box_head(self.box_roi_pool(features, rois, image_shapes)))
        return logits.float(), deltas.float()  # half precision would move boxes by pixels

    def run_mask_head(
        self, features: dict[str, Tensor], rois: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> Tensor:
        """Return mask logits (R, K, M, M) of the RoIs (r, 4) of each image, in float32."""
        heads: Any = self
        return heads.mask_predictor(heads.mask_head(heads.mask_roi_pool(features, rois, image_shapes))).float()

    def predict_masks(self, features: dict[str, Tensor], detections: PaddedDetections, images: ImageList) -> Tensor:
        """Return mask probabilities (N, D, M, M) inside the boxes of detections, for their labels."""
        logits = self.run_mask_head(features, list(detections.boxes), images.image_sizes)
        channel = (detections.labels.flatten() - 1)[:, None, None, None]
        masks = logits.take_along_dim(channel, dim=1).sigmoid()
        return masks.view(*detections.labels.shape, *logits.shape[-2:])

    def postprocess(self, scores: Tensor, deltas: Tensor, proposals: Tensor, images: ImageList) -> PaddedDetections:
        """Decode the boxes with the best scores and apply NMS within each class.

        Args:
            scores: (N, P, K) of foreground classes, ``PADDING_SCORE`` for padding.
            deltas: (N, P, K, 4) of the same proposals and classes.
            proposals: (N, P, 4) in pixels of the padded batch.
            images: padded batch, and the sizes of its images.
        """
        num_classes = scores.shape[-1]
        scores = torch.where(scores > self.score_thresh, scores, PADDING_SCORE).flatten(1)
        scores, index = padded_topk(scores, PRE_NMS_TOP_N)  # over all proposals and classes
        boxes = apply_deltas(
            self.box_coder, gather_rows(deltas.flatten(1, 2), index), gather_rows(proposals, index // num_classes)
        )
        boxes, scores, labels = batched_padded_nms(
            boxes,
            scores,
            index % num_classes,
            images.image_sizes,
            iou_threshold=self.nms_thresh,
            max_detections=self.detections_per_img,
            min_size=MIN_BOX_SIDE,
        )
        return PaddedDetections(boxes, scores, labels + 1)
