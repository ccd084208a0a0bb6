"""Trainable parameters with 80 classes, stem and stage 1 frozen: those of mmdetection's models and of the paper."""

import pytest
import torch
from torch import nn

from drfpn import build_detector
from drfpn.backbones import BACKBONES
from drfpn.detectors import DETECTORS
from tests.detectors.scenes import SMALL, scene

COUNTS = {
    "faster_rcnn_r50": (41_527_712, 48_382_371),
    "faster_rcnn_r101": (60_519_840, 67_374_499),
    "mask_rcnn_r50": (44_170_992, 51_025_651),
    "cascade_rcnn_r50": (69_169_422, 76_024_081),
    "cascade_mask_rcnn_r50": (77_099_262, 83_953_921),
    "retinanet_r50": (37_743_348, 42_509_814),
}
RELEASE = {"convention": "release"}


def on_meta(name: str, **options: object) -> nn.Module:
    with torch.device("meta"):
        return build_detector(name, neck_options=options)


def trainable(name: str, **options: object) -> int:
    return sum(p.numel() for p in on_meta(name, **options).parameters() if p.requires_grad)


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_exact(name) -> None:
    fpn, drfpn = COUNTS[name]
    assert trainable(f"{name}_fpn") == fpn
    assert trainable(f"{name}_drfpn", **RELEASE) == drfpn


def test_drfpn_without_the_pooling_module_is_table_7s() -> None:
    assert trainable("faster_rcnn_r50_drfpn", **RELEASE, context=None) == 47_792_291


def test_drfpn_adds_the_same_to_every_detector_on_the_same_levels() -> None:
    two_stage = [COUNTS[name][1] - COUNTS[name][0] for name in COUNTS if "rcnn" in name]
    assert set(two_stage) == {6_854_659}
    assert trainable("fcos_r50_drfpn", **RELEASE) - trainable("fcos_r50_fpn") == 4_766_466


def test_fcos_with_frozen_batchnorm_has_32_02_million() -> None:
    body = on_meta("fcos_r50_fpn").backbone.body
    learning = sum(
        p.numel() for m in body.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters() if p.requires_grad
    )
    assert round((trainable("fcos_r50_fpn") - learning) / 1e4) == 3202


@pytest.mark.slow
@pytest.mark.parametrize("body", ["r18", "r50", "convnext_tiny", "regnety_004"])
@pytest.mark.parametrize("name", ["mask_rcnn", "fcos"])
def test_detectors_train_and_detect_on_other_families_of_backbones(name, body) -> None:
    model = build_detector(f"{name}_{body}_drfpn", 3, norm_eval=False, **SMALL[name])
    images, targets = scene((70, 90), (120, 50))
    loss = sum(model.train()(images, targets).values())
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert len(model.eval()(images)) == 2


@pytest.mark.parametrize("body", BACKBONES)
def test_every_tested_backbone_carries_every_detector(body) -> None:
    for name in DETECTORS:
        model = on_meta(f"{name}_{body}_drfpn")
        assert model.backbone.neck.out_channels == 256
