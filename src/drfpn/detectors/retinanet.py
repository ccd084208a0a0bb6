"""RetinaNet (Lin et al., ICCV 2017), based on torchvision's classes."""

from typing import Any

from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection import retinanet as torchvision_retinanet
from torchvision.models.detection.image_list import ImageList
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.backbones import TimmBackbone
from drfpn.detectors.anchors import AnchorGenerator
from drfpn.detectors.backbone_with_neck import BackboneWithNeck
from drfpn.detectors.one_stage import OneStageDetector
from drfpn.detectors.postprocess import PaddedDetections, apply_deltas
from drfpn.detectors.towers import replace_towers
from drfpn.necks import ExtraConvs, Neck


class RetinaNetHead(torchvision_retinanet.RetinaNetHead):
    """torchvision's head with outputs in float32.

    Its losses are means over images, so processes with the same number of images need no communication.

    Args:
        in_channels: channels of the levels.
        num_anchors: anchors at each point.
        num_classes: number of foreground classes.
    """

    def forward(self, x: list[Tensor]) -> dict[str, Tensor]:
        """Return "cls_logits" (N, A, K) and "bbox_regression" (N, A, 4) of all levels (N, C, H, W)."""
        return {name: value.float() for name, value in super().forward(x).items()}


class RetinaNet(OneStageDetector, detection.RetinaNet):
    """torchvision's RetinaNet with labels 1..K and inference in tensors of fixed size.

    Args:
        backbone: backbone with its neck.
        num_classes: number of foreground classes.
        options: further arguments of torchvision's class.
    """

    def predict(self, features: dict[str, Tensor], images: ImageList) -> PaddedDetections:
        """Return the detections of a batch, see :meth:`drfpn.detectors.base.Detector.predict`."""
        outputs = self.head(list(features.values()))
        return self.postprocess(features, images, outputs["cls_logits"].sigmoid(), outputs["bbox_regression"])

    def decode_boxes(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """Return the boxes of the deltas (..., 4) of anchors (..., 4)."""
        return apply_deltas(self.box_coder, deltas, anchors)


def p6_p7_from_c5(body: TimmBackbone, width: int) -> ExtraFPNBlock:
    """Return RetinaNet's extra levels: P6 and P7 from C5, without a ReLU between them, as in mmdetection."""
    return ExtraConvs(body.channels[-1], width, source="input")


def retinanet(
    body: TimmBackbone,
    neck: Neck,
    num_classes: int,
    *,
    anchor_scale: float = 4,
    towers: str = "convs",
    **options: Any,
) -> RetinaNet:
    """Build RetinaNet on a backbone and a neck.

    Args:
        body: backbone, from C3.
        neck: neck with P6 and P7.
        num_classes: number of foreground classes, without background; labels are 1..num_classes.
        anchor_scale: side of the smallest anchors of a level, in strides of that level (4: 32 px on P3); each point has
            anchors of three sizes, a third of an octave apart, and three aspect ratios.
        towers: layers between the levels and the predictions, a key of ``TOWERS``: ``"convs"``, four convolutions for
            classes and four for boxes, or in place of each one layer that reads all levels: ``"shared"``, a plain
            convolution, or ``"sepc"``.
        options: arguments of ``torchvision.models.detection.RetinaNet``, such as ``min_size`` (800), ``max_size``
            (1333), ``score_thresh`` (0.05), ``detections_per_img`` (100).

    Raises:
        UsageError: unknown ``towers``.
    """
    backbone = BackboneWithNeck(body, neck, neck.out_channels)
    levels = backbone.out_levels()
    sizes = tuple(tuple(int(anchor_scale * level.stride * 2 ** (k / 3)) for k in range(3)) for level in levels)
    options = {"image_mean": list(body.mean), "image_std": list(body.std), "detections_per_img": 100} | options
    anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(levels))
    model = RetinaNet(
        backbone,
        num_classes,
        anchor_generator=anchors,
        head=RetinaNetHead(neck.out_channels, anchors.num_anchors_per_location()[0], num_classes),
        **options,
    )
    _scale_init(model.head, neck.out_channels)
    replace_towers(model.head, towers, neck.out_channels)
    return model


def _scale_init(head: nn.Module, width: int) -> None:
    """Scale the initial weights of a head of ``width`` channels, whose N(0, 0.01) is meant for 256 channels.

    Four layers of 64 channels would attenuate the signal a thousandfold, and the loss would not fall for an epoch.
    """
    for module in head.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data.mul_((256 / width) ** 0.5)
