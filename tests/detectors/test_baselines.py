"""Pyramids of other papers inside of detectors."""

import pytest
import torch
from torch import nn
from torchvision.models import detection

from drfpn import build_detector, replace_neck
from drfpn.necks import BiFPN
from tests.detectors.scenes import SMALL, loss_history

LEARN_ALL = {"frozen_stages": -1, "norm_eval": False}
NECKS = {
    "carafe": {},
    "carafe, mmdet": {"layout": "mmdet"},
    "dysample": {"dynamic_scope": True},
    "fapn": {},
    "freqfusion": {},
    "bifpn": {},
    "afpn": {},
}
each = pytest.mark.parametrize("neck", NECKS)


def build(detector: str, neck: str, **options: object) -> nn.Module:
    name = f"{detector}_lite0_{neck.partition(',')[0]}"
    return build_detector(name, 3, neck_options=NECKS[neck], **SMALL[detector] | options)


@each
@pytest.mark.parametrize(
    ("detector", "strides"),
    [
        ("faster_rcnn", {"0": 4, "1": 8, "2": 16, "3": 32, "pool": 64}),
        ("retinanet", {"1": 8, "2": 16, "3": 32, "p6": 64, "p7": 128}),
        ("fcos", {"1": 8, "2": 16, "3": 32, "p6": 64, "p7": 128}),
    ],
)
def test_each_detector_has_levels_at_its_own_strides(detector, strides, neck) -> None:
    model = build(detector, neck).eval()
    with torch.no_grad():
        levels = model.backbone(torch.rand(1, 3, 128, 256))
    assert {name: (128 / m.shape[-2], 256 / m.shape[-1]) for name, m in levels.items()} == {
        name: (stride, stride) for name, stride in strides.items()
    }


@pytest.mark.parametrize(
    ("neck", "parameters"),
    [("carafe, mmdet", 47_133_232), ("dysample", 41_576_960)],
)
def test_detectors_have_the_parameters_that_were_published(neck, parameters) -> None:
    """47.13 M in mmdetection's layout, 41.58 M for DySample+ (Faster R-CNN R50, 80 classes)."""
    with torch.device("meta"):
        model = build_detector(f"faster_rcnn_r50_{neck.partition(',')[0]}", neck_options=NECKS[neck])
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == parameters


def test_levels_that_a_pyramid_makes_itself_go_with_it() -> None:
    """The convolutions of torchvision's own P6 and P7 come back with another pyramid."""
    model = detection.retinanet_resnet50_fpn(weights=None, weights_backbone=None, min_size=64, max_size=96).eval()
    before = model.backbone.fpn.extra_blocks
    replace_neck(model, "bifpn")
    assert isinstance(model.backbone.fpn, BiFPN)
    assert not any("extra_blocks" in name for name in model.state_dict())
    with torch.no_grad():
        model([torch.rand(3, 64, 80)])
    assert replace_neck(model, "dysample").backbone.fpn.extra_blocks is before
    with torch.no_grad():
        model([torch.rand(3, 64, 80)])


@pytest.mark.slow
@pytest.mark.parametrize("neck", [neck for neck in NECKS if neck != "carafe, mmdet"])
@pytest.mark.parametrize("detector", ["faster_rcnn", "retinanet"])
def test_it_learns_two_images_by_heart(detector, neck) -> None:
    torch.manual_seed(0)
    options = {"anchor_scale": 2} if detector == "retinanet" else {}
    history = loss_history(build(detector, neck, **LEARN_ALL, **options).train(), steps=12)
    assert min(history[-5:]) < 0.65 * history[0], history
