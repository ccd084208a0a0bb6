"""The second stage: what a region shows, where exactly, and which of its pixels."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import roi_heads as torchvision_roi_heads
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops._utils import convert_boxes_to_roi_format
from torchvision.ops.poolers import LevelMapper

from drfpn.detectors.losses import BoxLoss, roi_losses, smooth_l1
from drfpn.detectors.postprocess import PaddedDetections, rows
from drfpn.detectors.rpn import decode
from drfpn.detectors.samplers import SAMPLERS
from drfpn.ops import PADDING_SCORE, batched_padded_nms, padded_topk, roi_align
from drfpn.utils import distributed

CANDIDATES = 2000
"""Boxes of all classes that an image may have above the threshold before they are suppressed."""
MIN_SIDE = 1e-2
"""Shortest side of a box, pixels (torchvision's)."""


class RoIPool(MultiScaleRoIAlign):
    """torchvision's RoIAlign on P2, P3, ..., with strides that are told and in a form that can be exported.

    torchvision guesses the strides from the first image that it sees, wrongly if that is a small part of its padded
    batch.

    Args:
        strides: of the levels, finest first; each twice the one before.
        output_size: side of the result.
    """

    def __init__(self, strides: tuple[int, ...], output_size: int) -> None:
        finest = strides[0].bit_length() - 1
        super().__init__([str(finest - 2 + i) for i in range(len(strides))], output_size, sampling_ratio=2)
        self.strides = strides
        self.scales = [1 / stride for stride in strides]
        self.map_levels = LevelMapper(finest, finest + len(strides) - 1, self.canonical_scale, self.canonical_level)

    def resized(self, output_size: int) -> "RoIPool":
        """Return a pool of the same kind with weights of its own."""
        return RoIPool(self.strides, output_size)

    def forward(self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        """Return (R, channels, output_size, output_size) of the boxes (R, 4) of all images, in pixels of the batch."""
        levels = [x[name] for name in self.featmap_names]
        # half precision would move them by pixels; at a position that is no number RoIAlign leaves its memory
        regions = convert_boxes_to_roi_format(boxes).nan_to_num()
        level_of = self.map_levels(boxes)
        pooled = levels[0].new_zeros(regions.shape[0], levels[0].shape[1], *self.output_size)
        for i, (level, scale) in enumerate(zip(levels, self.scales, strict=True)):
            # index_select and index_copy_ hold for any count of regions in a graph, indexing for two and more only
            index = (level_of == i).nonzero().squeeze(1)
            chosen = regions.index_select(0, index)
            here = roi_align(level, chosen, self.output_size[0], scale, self.sampling_ratio)
            pooled.index_copy_(0, index, here.to(pooled.dtype))
        return pooled


class RoIHeads(torchvision_roi_heads.RoIHeads):
    """torchvision's heads, whose masks are for foreground classes only, with an evaluation of fixed size.

    ``mask_predictor`` gives (R, K, M, M): label k is channel k - 1. Losses are this process's part of those of the
    batch of all processes.

    Args:
        sampler: makes what chooses the regions that losses look at, as those of ``SAMPLERS``.
        box_loss: of the deltas of regions that belong to an object.
        auxiliary: gives further losses of the regions chosen, called with (levels, regions, labels, deltas wanted,
            ``box_loss``).
        settings: torchvision's.
    """

    def __init__(
        self,
        *,
        sampler: Callable[[int, float, float], Any] = SAMPLERS["random"],
        box_loss: BoxLoss = smooth_l1,
        auxiliary: nn.Module | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        given = self.fg_bg_sampler
        self.sampler = sampler
        self.fg_bg_sampler: Any = sampler(
            given.batch_size_per_image, given.positive_fraction, self.proposal_matcher.low_threshold
        )
        self.box_loss = box_loss
        self.auxiliary = auxiliary

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Return the losses of a batch in training; :meth:`find` is for evaluation."""
        assert targets is not None
        losses, _, _ = self.losses(features, proposals, image_shapes, targets)
        return [], losses

    def losses(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]],
    ) -> tuple[dict[str, Tensor], list[Tensor], Tensor]:
        """Return the loss terms, the regions sampled for them (a tensor an image), and their deltas."""
        sampled, matched, labels, wanted = self.select_training_samples(proposals, targets)
        logits, deltas = self.predict(features, sampled, image_shapes)
        classifier, box_reg = roi_losses(logits, deltas, labels, wanted, self.box_loss)
        part = distributed.loss_scale(len(logits), device=logits.device)
        losses = {"loss_classifier": classifier * part, "loss_box_reg": box_reg * part}
        if self.auxiliary is not None:
            more = self.auxiliary(features, sampled, labels, wanted, self.box_loss)
            losses |= {name: value * part for name, value in more.items()}
        if self.has_mask():
            positive = [label > 0 for label in labels]
            regions = [boxes[chosen] for boxes, chosen in zip(sampled, positive, strict=True)]
            mask = torchvision_roi_heads.maskrcnn_loss(
                self.mask_logits(features, regions, image_shapes),
                regions,
                [target["masks"] for target in targets],
                [target["labels"] - 1 for target in targets],
                [index[chosen] for index, chosen in zip(matched, positive, strict=True)],
            )
            losses["loss_mask"] = mask * distributed.loss_scale(sum(map(len, regions)), device=logits.device)
        return losses, sampled, deltas

    def select_training_samples(
        self, proposals: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
        """Choose the regions that losses look at, as torchvision does but for a sampler that also sees the regions.

        Returns:
            An image: regions (r, 4), the objects that they belong to (r,), their labels (r,), the deltas wanted (r, 4).
        """
        self.check_targets(targets)
        boxes = [target["boxes"].to(proposals[0].dtype) for target in targets]
        regions = self.add_gt_proposals(proposals, boxes)
        matched, labels = self.assign_targets_to_proposals(regions, boxes, [target["labels"] for target in targets])
        chosen = [
            (positive | negative).nonzero().squeeze(1)
            for positive, negative in zip(*self.fg_bg_sampler(labels, matched, regions, boxes), strict=True)
        ]
        regions, matched, labels = (
            [of_image[index] for of_image, index in zip(values, chosen, strict=True)]
            for values in (regions, matched, labels)
        )
        theirs = [
            box[index] if len(box) else torch.zeros_like(region)
            for box, index, region in zip(boxes, matched, regions, strict=True)
        ]
        return regions, matched, labels, self.box_coder.encode(theirs, regions)

    def find(self, features: dict[str, Tensor], regions: Tensor, real: Tensor, images: ImageList) -> PaddedDetections:
        """Return what the regions (N, R, 4) show; ``real`` (N, R) says which of them do not only fill up."""
        logits, deltas = self.predict(features, list(regions), images.image_sizes)
        shape = *real.shape, logits.shape[-1]
        scores = torch.where(real[..., None], logits.softmax(-1).view(shape)[..., 1:], PADDING_SCORE)
        found = self.choose(scores, deltas.view(*shape, 4)[:, :, 1:], regions, images)
        return found._replace(masks=self.masks(features, found, images)) if self.has_mask() else found

    def predict(
        self, features: dict[str, Tensor], regions: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> tuple[Tensor, Tensor]:
        """Return class logits (R, K + 1) and deltas (R, 4 (K + 1)) of all regions of a batch."""
        logits, deltas = self.box_predictor(self.box_head(self.box_roi_pool(features, regions, image_shapes)))
        return logits.float(), deltas.float()  # half precision would move boxes by pixels

    def mask_logits(
        self, features: dict[str, Tensor], regions: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> Tensor:
        """Return mask logits (R, K, M, M) of all regions of a batch."""
        heads: Any = self
        return heads.mask_predictor(heads.mask_head(heads.mask_roi_pool(features, regions, image_shapes))).float()

    def masks(self, features: dict[str, Tensor], found: PaddedDetections, images: ImageList) -> Tensor:
        """Return the probability (N, D, M, M) of each pixel of the boxes found, for their label."""
        logits = self.mask_logits(features, list(found.boxes), images.image_sizes)
        channel = (found.labels.flatten() - 1)[:, None, None, None]
        return logits.take_along_dim(channel, dim=1).sigmoid().view(*found.labels.shape, *logits.shape[-2:])

    def choose(self, scores: Tensor, deltas: Tensor, regions: Tensor, images: ImageList) -> PaddedDetections:
        """Return the best boxes of each image, suppressed class by class.

        Args:
            scores: (N, R, K) of foreground classes, ``PADDING_SCORE`` for regions that only fill up.
            deltas: (N, R, K, 4)
            regions: (N, R, 4) what they are deltas of.
            images: batch and sizes of the images in it.
        """
        classes = scores.shape[-1]
        scores = torch.where(scores > self.score_thresh, scores, PADDING_SCORE).flatten(1)
        scores, index = padded_topk(scores, CANDIDATES)  # of all regions and classes
        boxes = decode(self.box_coder, rows(deltas.flatten(1, 2), index), rows(regions, index // classes))
        boxes, scores, labels = batched_padded_nms(
            boxes,
            scores,
            index % classes,
            images.image_sizes,
            iou=self.nms_thresh,
            count=self.detections_per_img,
            min_side=MIN_SIDE,
        )
        return PaddedDetections(boxes, scores, labels + 1)
