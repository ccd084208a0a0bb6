"""Table 1 of the paper (COCO test-dev, arXiv:2012.01733), with the model of this library for each row."""

from typing import Any, NamedTuple

import torch

from drfpn.detectors import build_detector, parse_name

Numbers = tuple[float, ...]
"""AP, AP50, AP75, AP of small, medium and large objects, in %; shorter where the paper gives fewer."""


class Row(NamedTuple):
    """A row of Table 1."""

    method: str
    """Name in the paper; ``*`` marks the baselines that its authors trained."""
    backbone: str
    schedule: str
    box: Numbers
    mask: Numbers = ()
    model: str | None = None
    """Name of the model in this library; ``None`` if it is not implemented."""
    done: tuple[str, ...] = ()
    """Checks of the model in this library, in this order: built, counted (parameters), stepped (one training step at
    full size)."""
    options: dict[str, Any] | None = None
    """Options of the detector."""


COUNTED = ("built", "counted")
STEPPED = (*COUNTED, "stepped")
_LIBRA = {"box_loss": "balanced_l1", "sampler": "iou_balanced"}

# fmt: off
TABLE = (
    Row("Libra R-CNN", "R50", "1x", (38.7, 59.9, 42.0, 22.5, 41.1, 48.7), (),
        "faster_rcnn_r50_libra", STEPPED, _LIBRA),
    Row("Libra R-CNN", "R101", "1x", (40.3, 61.3, 43.9, 22.9, 43.1, 51.0), (),
        "faster_rcnn_r101_libra", STEPPED, _LIBRA),
    Row("Faster R-CNN w/ LIP", "R50", "2x", (39.2, 61.2, 42.5, 24.0, 43.1, 50.3), (), "faster_rcnn_lip_r50_fpn",
        STEPPED),
    Row("Faster R-CNN w/ CARAFE", "R50", "-", (38.1, 60.7, 41.0, 22.8, 41.2, 46.9), (),
        "faster_rcnn_r50_carafe", STEPPED),
    Row("Faster R-CNN w/ AugFPN", "R50", "1x", (38.8, 61.5, 42.0, 23.3, 42.1, 47.7), (),
        "faster_rcnn_r50_augfpn", STEPPED),
    Row("Faster R-CNN w/ PConv", "R50", "1x", (38.5, 59.9, 41.4), (), "faster_rcnn_r50_pconv", STEPPED),
    Row("NAS-FPN 7@256", "R50", "1x", (39.0, 59.5, 42.4, 22.4, 42.6, 47.8), (), "retinanet_r50_nas_fpn", STEPPED),
    Row("NAS-FPN 7@256", "R101", "1x", (40.3, 61.2, 43.8, 23.1, 43.9, 50.1), (), "retinanet_r101_nas_fpn", COUNTED),
    Row("Mask R-CNN w/ FPT", "R101", "2x", (41.6, 60.9, 44.0, 23.4, 41.5, 53.1), (), "mask_rcnn_r101_fpt", COUNTED),
    Row("RetinaNet*", "R50", "1x", (36.1, 54.8, 38.1, 19.1, 39.7, 47.0), (), "retinanet_r50_fpn", STEPPED),
    Row("FCOS*", "R50", "1x", (36.6, 55.7, 38.8, 20.7, 40.1, 47.4), (), "fcos_r50_fpn", STEPPED),
    Row("Faster R-CNN*", "R50", "1x", (37.4, 58.1, 40.4, 21.2, 41.0, 48.1), (), "faster_rcnn_r50_fpn", STEPPED),
    Row("Faster R-CNN*", "R101", "1x", (39.4, 60.1, 43.1, 22.4, 43.7, 50.0), (), "faster_rcnn_r101_fpn", STEPPED),
    Row("Faster R-CNN*", "R101", "2x", (39.8, 60.1, 43.3, 22.5, 43.6, 51.8), (), "faster_rcnn_r101_fpn", STEPPED),
    Row("Faster R-CNN*", "X101-64x4d", "1x", (41.7, 64.1, 45.3, 25.1, 45.1, 52.1), (),
        "faster_rcnn_x101_64x4d_fpn", STEPPED),
    Row("Mask R-CNN*", "R50", "1x", (38.2, 58.8, 41.4, 21.9, 40.9, 49.1), (34.4, 55.7, 37.2, 18.3, 37.4, 46.1),
        "mask_rcnn_r50_fpn", STEPPED),
    Row("Mask R-CNN*", "R101", "1x", (40.0, 60.5, 44.0, 22.6, 44.0, 51.9), (36.1, 57.5, 38.6, 18.8, 39.7, 48.9),
        "mask_rcnn_r101_fpn", STEPPED),
    Row("Mask R-CNN*", "R101", "2x", (40.8, 61.0, 44.5, 23.0, 45.0, 53.5), (36.6, 57.9, 39.1, 19.2, 40.2, 49.2),
        "mask_rcnn_r101_fpn", STEPPED),
    Row("Cascade Mask R-CNN*", "R50", "1x", (41.2, 59.4, 45.0, 23.9, 44.2, 53.8), (35.9, 56.6, 38.4, 19.4, 38.5, 48.5),
        "cascade_mask_rcnn_r50_fpn", STEPPED),
    Row("Cascade Mask R-CNN*", "R101", "1x", (42.9, 61.0, 46.6, 24.4, 46.5, 56.0), (37.3, 58.2, 40.1, 19.7, 40.6, 50.9),
        "cascade_mask_rcnn_r101_fpn", STEPPED),
    Row("RetinaNet w/ DRFPN", "R50", "1x", (38.0, 58.1, 40.6, 22.2, 41.5, 45.6), (), "retinanet_r50_drfpn", STEPPED),
    Row("FCOS w/ DRFPN", "R50", "1x", (37.9, 57.6, 40.5, 21.0, 41.0, 47.3), (), "fcos_r50_drfpn", STEPPED),
    Row("Faster R-CNN w/ DRFPN", "R50", "1x", (39.6, 61.2, 42.8, 23.1, 42.6, 49.4), (),
        "faster_rcnn_r50_drfpn", STEPPED),
    Row("Faster R-CNN w/ DRFPN", "R101", "1x", (41.1, 62.8, 44.7, 23.9, 44.3, 52.2), (),
        "faster_rcnn_r101_drfpn", STEPPED),
    Row("Faster R-CNN w/ DRFPN", "R101", "2x", (41.8, 63.0, 45.7, 23.1, 44.7, 53.1), (),
        "faster_rcnn_r101_drfpn", STEPPED),
    Row("Faster R-CNN w/ DRFPN", "X101-64x4d", "1x", (43.4, 65.2, 47.4, 25.7, 47.0, 54.6), (),
        "faster_rcnn_x101_64x4d_drfpn", STEPPED),
    Row("Mask R-CNN w/ DRFPN", "R50", "1x", (40.0, 61.4, 43.6, 23.2, 42.8, 50.0), (36.3, 58.4, 38.9, 19.6, 38.7, 47.2),
        "mask_rcnn_r50_drfpn", STEPPED),
    Row("Mask R-CNN w/ DRFPN", "R101", "1x", (41.9, 63.3, 45.7, 24.4, 45.1, 53.0), (37.8, 60.2, 40.5, 20.6, 40.5, 49.9),
        "mask_rcnn_r101_drfpn", STEPPED),
    Row("Mask R-CNN w/ DRFPN", "R101", "2x", (42.7, 62.9, 47.1, 23.8, 46.5, 56.7), (38.4, 60.4, 41.3, 21.0, 41.4, 51.3),
        "mask_rcnn_r101_drfpn", STEPPED),
    Row("Cascade Mask R-CNN w/ DRFPN", "R50", "1x", (43.0, 61.7, 46.6, 24.8, 45.7, 54.5),
        (37.7, 59.2, 40.6, 20.4, 40.0, 49.4), "cascade_mask_rcnn_r50_drfpn", STEPPED),
    Row("Cascade Mask R-CNN w/ DRFPN", "R101", "1x", (44.5, 63.2, 48.3, 25.6, 47.4, 57.1),
        (38.8, 60.5, 41.9, 21.0, 41.4, 51.6), "cascade_mask_rcnn_r101_drfpn", STEPPED),
)
# fmt: on


def trainable_parameters() -> dict[str, int]:
    """Return the number of trainable parameters of each model, with 80 classes and DRFPN's convention ``release``.

    The models are built on the meta device, which takes seconds and no memory.
    """
    counts = {}
    for model, detector_options in {row.model: row.options for row in TABLE if row.model}.items():
        options = {"convention": "release"} if parse_name(model)[-1] == "drfpn" else {}
        with torch.device("meta"):
            detector = build_detector(model, 80, neck_options=options, **(detector_options or {}))
        counts[model] = sum(p.numel() for p in detector.parameters() if p.requires_grad)
    return counts
