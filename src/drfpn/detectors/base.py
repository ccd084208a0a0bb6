"""``DetectionModel``, the interface of all detectors, and ``Detector``, the base class of those of this package."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import paste_masks_in_image

from drfpn.detectors.backbone_with_neck import BackboneWithNeck
from drfpn.detectors.postprocess import PaddedDetections, to_float
from drfpn.detectors.roi_heads import RoIHeads
from drfpn.detectors.transform import Transform, resize_boxes
from drfpn.ops import PADDING_SCORE


class CanDetect(Protocol):
    """Interface that evaluation and prediction need: of a :class:`DetectionModel`, or of an exported file."""

    def eval(self) -> Self:
        """Set evaluation mode."""

    def detect(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """Return the detections of each image as :meth:`Detector.detect` does."""


class DetectionModel(CanDetect, Protocol):
    """Interface of a detector that this library uses, including the methods of ``nn.Module`` that it calls.

    All models of :func:`drfpn.build_detector` implement it.
    """

    training: bool
    """As of ``nn.Module``."""
    num_classes: int
    """Number of foreground classes; labels are 1..num_classes."""
    backbone: BackboneWithNeck
    """Maps a batch of images to the levels that the heads read."""
    transform: Transform
    """Resizes, normalizes and batches images."""

    @property
    def cell_anchors(self) -> list[Tensor]:
        """Anchors (A, 4) of each level, centered at the origin; of FCOS, a square with sides of the level's stride."""

    @property
    def dense_head(self) -> nn.Module:
        """The head that is called with the list of all levels: that of the RPN, or of a one-stage detector."""

    @property
    def roi_stages(self) -> Sequence[RoIHeads]:
        """RoI heads of each stage: one, those of a cascade, or none of a one-stage detector."""

    @property
    def score_threshold(self) -> float:
        """Score threshold of detections."""

    @property
    def fg_iou_threshold(self) -> float:
        """IoU from which an anchor is positive in training; not used where ``center_sampling_radius`` is set."""

    @property
    def center_sampling_radius(self) -> float | None:
        """Distance in strides from an object's center within which points are positive (FCOS); ``None``: anchors."""

    def __call__(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        """Return losses by name in training, detections otherwise, see :meth:`Detector.forward`."""

    def detect_padded(self, images: Sequence[Tensor]) -> PaddedDetections:
        """Return detections in tensors of fixed size, see :meth:`Detector.detect_padded`."""

    def train(self, mode: bool = True) -> Self:
        """Set training mode."""

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move parameters to a device, dtype or memory format."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Reset the gradients."""

    def modules(self) -> Iterator[nn.Module]:
        """Iterate over all modules."""

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """Iterate over all parameters."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Iterate over all parameters and their names."""

    def state_dict(self) -> dict[str, Any]:
        """Return parameters and buffers by name."""

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> Any:
        """Copy parameters and buffers from a state dict."""


class Detector(nn.Module):
    """Base class, to be put before a class of torchvision: its training, but inference in tensors of fixed size.

    So inference is one graph whose sizes do not depend on values: the detector that is evaluated is the one that is
    exported. A subclass implements :meth:`predict` and the properties of :class:`DetectionModel`.

    Args:
        args: as of torchvision's class.
        options: as of torchvision's class.
    """

    num_classes: int
    backbone: BackboneWithNeck
    transform: Transform
    center_sampling_radius: float | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        settings = self.transform
        self.transform = Transform(settings.min_size, settings.max_size, settings.image_mean, settings.image_std)

    @property
    def cell_anchors(self) -> list[Tensor]:
        """See :class:`DetectionModel`."""
        raise NotImplementedError

    @property
    def dense_head(self) -> nn.Module:
        """See :class:`DetectionModel`."""
        raise NotImplementedError

    @property
    def roi_stages(self) -> Sequence[RoIHeads]:
        """See :class:`DetectionModel`."""
        raise NotImplementedError

    @property
    def score_threshold(self) -> float:
        """See :class:`DetectionModel`."""
        raise NotImplementedError

    @property
    def fg_iou_threshold(self) -> float:
        """See :class:`DetectionModel`."""
        raise NotImplementedError

    def predict(self, features: dict[str, Tensor], images: ImageList) -> PaddedDetections:
        """Return the detections of a batch.

        Args:
            features: levels by name, finest first.
            images: padded batch, and the sizes of its images.

        Returns:
            Boxes in pixels of the padded batch.
        """
        raise NotImplementedError

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        """Compute losses in training, detections otherwise.

        Args:
            images: float tensors (3, H, W) in [0, 1], in evaluation also uint8, each of any size.
            targets: of each image, "boxes" (B, 4), "labels" (B,) from 1 on, and for mask heads "masks" (B, H, W).

        Returns:
            In training, losses by name. Otherwise for each image "boxes" (D, 4), "labels" (D,), "scores" (D,) and of
            mask heads "masks" (D, 1, H, W), sorted by score.
        """
        if self.training:
            return super().forward(images, targets)
        outputs = self.detect(images)
        for image, output in zip(images, outputs, strict=True):
            if "crops" in output:
                output["masks"] = paste_masks_in_image(output.pop("crops"), output["boxes"], image.shape[-2:])
        return outputs

    def detect(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """Detect objects, with masks as "crops" (D, 1, M, M) inside their boxes.

        Masks in the size of a large image, one for each detection, take gigabytes: paste them one at a time with
        :func:`drfpn.detectors.postprocess.iter_masks`.

        Args:
            images: (3, H, W) each, uint8 or float in [0, 1].

        Returns:
            For each image "boxes" (D, 4) in its pixels, "labels" (D,), "scores" (D,), and "crops" of mask heads.
        """
        detections = self.detect_padded(images)
        outputs = []
        for i, scores in enumerate(detections.scores):
            valid = scores > PADDING_SCORE
            output = {
                "boxes": detections.boxes[i][valid],
                "labels": detections.labels[i][valid],
                "scores": scores[valid],
            }
            if detections.masks is not None:
                output["crops"] = detections.masks[i][valid][:, None]
            outputs.append(output)
        return outputs

    def detect_padded(self, images: Sequence[Tensor]) -> PaddedDetections:
        """Detect objects, with results in tensors of fixed size.

        Args:
            images: (3, H, W) each, uint8 or float in [0, 1].

        Returns:
            Detections with boxes in pixels of each image.
        """
        batch, _ = self.transform([to_float(image) for image in images])
        detections = self.predict(self.backbone(batch.tensors), batch)
        boxes = [
            resize_boxes(box, size, image.shape[-2:])
            for box, size, image in zip(detections.boxes, batch.image_sizes, images, strict=True)
        ]
        return detections._replace(boxes=torch.stack(boxes))
