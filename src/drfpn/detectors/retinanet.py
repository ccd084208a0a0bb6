"""RetinaNet (Lin et al., ICCV 2017) on torchvision's classes."""

from typing import Any

from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.backbones import TimmBackbone
from drfpn.detectors.anchors import AnchorGenerator
from drfpn.detectors.backbone_with_neck import PyramidBackbone
from drfpn.detectors.labels import LabelsFromOne
from drfpn.detectors.one_stage import postprocess_dense
from drfpn.detectors.postprocess import PaddedDetections, PaddedInference
from drfpn.detectors.rpn import decode
from drfpn.detectors.towers import set_towers
from drfpn.necks import ExtraConvs, Neck


class FloatRetinaNetHead(RetinaNetHead):
    """torchvision's head, results in float32.

    Its losses are means over images, so processes with as many images each need nothing from one another.
    """

    def forward(self, x: list[Tensor]) -> dict[str, Tensor]:
        """Return what torchvision's head does of the levels (N, channels, H, W)."""
        return {name: value.float() for name, value in super().forward(x).items()}


class RetinaNet(LabelsFromOne, PaddedInference, detection.RetinaNet):
    """torchvision's RetinaNet with labels 1..K and an evaluation of fixed size."""

    def find(self, features: dict[str, Tensor], images: ImageList) -> PaddedDetections:
        """Return what the levels of a batch show, in pixels of the batch."""
        outputs = self.head(list(features.values()))
        return postprocess_dense(self, features, images, outputs["cls_logits"].sigmoid(), outputs["bbox_regression"])

    def decode(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """Apply deltas (..., 4) to anchors (..., 4)."""
        return decode(self.box_coder, deltas, anchors)


def p6_p7_from_c5(body: TimmBackbone, width: int) -> ExtraFPNBlock:
    """Return what RetinaNet adds to a pyramid: P6 and P7 from C5, no ReLU between, as mmdetection."""
    return ExtraConvs(body.channels[-1], width, source="input")


def retinanet(
    body: TimmBackbone,
    neck: Neck,
    num_classes: int,
    *,
    anchor_scale: float = 4,
    towers: str = "convs",
    **options: Any,
) -> nn.Module:
    """Assemble RetinaNet from a backbone and its pyramid.

    Args:
        body: the backbone, from C3.
        neck: its pyramid, with P6 and P7.
        num_classes: foreground classes; labels are 1..num_classes.
        anchor_scale: side of a level's smallest anchors in strides of that level (4: 32 px on P3); each place has
            three sizes, a third of an octave apart, in three shapes.
        towers: what levels pass before classes and boxes are predicted, a name of ``TOWERS``: ``"convs"``, four
            convolutions each, or in their place one layer that all levels share: ``"shared"``, plain, or ``"sepc"``.
        options: handed to ``torchvision.models.detection.RetinaNet``, such as ``min_size`` (800), ``max_size``
            (1333), ``score_thresh`` (0.05), ``detections_per_img`` (100).

    Raises:
        UserError: unknown towers.
    """
    strides = [*body.strides, 64, 128]
    sizes = tuple(tuple(int(anchor_scale * stride * 2 ** (k / 3)) for k in range(3)) for stride in strides)
    options = {"image_mean": list(body.mean), "image_std": list(body.std), "detections_per_img": 100} | options
    anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(strides))
    model = RetinaNet(
        PyramidBackbone(body, neck, neck.out_channels),
        num_classes,
        anchor_generator=anchors,
        head=FloatRetinaNetHead(neck.out_channels, anchors.num_anchors_per_location()[0], num_classes),
        **options,
    )
    _keep_the_signal(model.head, neck.out_channels)
    set_towers(model.head, towers, neck.out_channels)
    return model


def _keep_the_signal(head: nn.Module, width: int) -> None:
    """Start the head of a narrow pyramid as strongly as that of 256 channels, which its N(0, 0.01) is meant for.

    Four layers of 64 channels would hand on a thousandth of it, and the loss would stand still for an epoch.
    """
    for module in head.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data.mul_((256 / width) ** 0.5)
