"""An FPN detector becomes one with DRFPN that detects the same, bit for bit."""

import logging

import pytest
import torch
from torch import nn
from torchvision.models import detection
from torchvision.ops import FeaturePyramidNetwork

from drfpn import DRFPN, FPN, PAFPN, build_detector, replace_neck
from drfpn.detectors import DETECTORS
from drfpn.detectors.upgrade_neck import upgrade_neck
from drfpn.necks import BiFPN
from drfpn.utils.errors import UserError
from tests.detectors.scenes import SMALL, all_scores, scene, trained

C = (4, 6, 8, 10)
LAYOUTS = pytest.mark.parametrize(
    "layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "channels_last"]
)


def detections(model: nn.Module) -> list[dict[str, torch.Tensor]]:
    images, _ = scene((96, 130), (120, 90))
    with torch.no_grad():
        return model(images)


def assert_same(before: list[dict[str, torch.Tensor]], after: list[dict[str, torch.Tensor]]) -> None:
    for ours, theirs in zip(after, before, strict=True):
        assert ours.keys() == theirs.keys()
        assert len(theirs["boxes"]) > 0
        for name, value in theirs.items():
            assert torch.equal(ours[name], value), name


@pytest.mark.slow
@LAYOUTS
@pytest.mark.parametrize("name", DETECTORS)
def test_each_detector_detects_the_same_with_drfpn(name, layout, caplog) -> None:
    learn = {"frozen_stages": -1, "norm_eval": False}
    model = build_detector(f"{name}_lite0_fpn", 3, **SMALL[name], **all_scores(name), **learn)
    model = trained(model.to(memory_format=layout))
    before = detections(model)
    caplog.set_level(logging.INFO, "drfpn")
    assert isinstance(replace_neck(model, keep=True).backbone.neck, DRFPN)
    assert_same(before, detections(model))
    assert "DRFPN starts from the weights of FPN" in caplog.text
    assert any(p.grad is None for p in model.backbone.neck.parameters())  # a pyramid that is new, and learns
    assert all(p.requires_grad for p in model.backbone.neck.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fasterrcnn_resnet50_fpn", "retinanet_resnet50_fpn", "fcos_resnet50_fpn"])
@pytest.mark.parametrize(("neck", "options"), [("drfpn", {}), ("pafpn", {"residual": True}), ("fpn_scale", {})])
def test_torchvision_s_detectors_too(name, neck, options, caplog) -> None:
    scores = {"box_score_thresh" if "faster" in name else "score_thresh": 0.0}
    sizes = {"min_size": 96, "max_size": 128}
    model = getattr(detection, name)(weights=None, weights_backbone=None, num_classes=3, **sizes, **scores).eval()
    before = detections(model)
    caplog.set_level(logging.INFO, "drfpn")
    replace_neck(model, neck, keep=True, **options)
    assert_same(before, detections(model))
    assert "starts from the weights of FeaturePyramidNetwork" in caplog.text


def test_without_keep_the_new_pyramid_is_untrained() -> None:
    model = build_detector("faster_rcnn_lite0_fpn", 3, **SMALL["faster_rcnn"]).eval()
    before = model.backbone.neck.smooth[0].weight
    assert not torch.equal(replace_neck(model).backbone.neck.smooth[0].weight, before)


@pytest.mark.parametrize(
    ("make", "new_parts"),
    [
        (lambda: DRFPN(C, 8, convention="paper"), ("top.branches", "top.merge", "top_down", "bottom_up")),
        (lambda: DRFPN(C, 8, convention="release"), ("top.branches", "top.merge", "top_down", "bottom_up")),
        (lambda: DRFPN(C, 8, context="dense_aspp"), ("top.branches", "top.merge", "top_down", "bottom_up")),
        (lambda: PAFPN(C, 8), ("bottom_up",)),
    ],
    ids=["paper", "release", "dense aspp", "pafpn"],
)
def test_what_begins_otherwise_is_said(make, new_parts) -> None:
    report = upgrade_neck(FPN(C, 8), make())
    assert not report.exact
    assert report.difference > 0.01
    assert report.new_parts == new_parts
    assert "is not equal to FPN" in str(report)
    assert "detections change until it is trained" in str(report)
    assert all(f"'{part}'" in str(report) for part in new_parts)


def test_what_has_no_place_in_the_new_pyramid_is_said() -> None:
    old = DRFPN(C, 8)
    nn.init.normal_(old.bottom_up.steps[0].down.weight)
    report = upgrade_neck(old, FPN(C, 8))
    assert report.dropped_parts == ("top.branches", "top.merge", "top_down", "bottom_up")
    assert "of DRFPN are dropped" in str(report)


def test_a_drfpn_that_begins_as_an_fpn_can_become_one_again() -> None:
    assert upgrade_neck(DRFPN(C, 8), FPN(C, 8)).exact
    assert upgrade_neck(DRFPN(C, 8), PAFPN(C, 8, residual=True)).exact


def test_other_methods_take_what_fits_and_say_that_levels_change() -> None:
    report = upgrade_neck(FeaturePyramidNetwork(list(C), 8), BiFPN(C, 8))
    assert report.old == "FeaturePyramidNetwork"
    assert not report.exact


def test_modes_and_the_old_pyramid_are_left_as_they_were() -> None:
    old, new = FPN(C, 8).train(), DRFPN(C, 8).train()
    before = {name: value.clone() for name, value in old.state_dict().items()}
    upgrade_neck(old, new)
    assert old.training
    assert all(module.training for module in new.modules())
    for name, value in old.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("keep", [False, True])
def test_a_pyramid_of_other_levels_than_the_detector_has_is_refused(keep) -> None:
    model = build_detector("faster_rcnn_lite0_nas_fpn", 3, **SMALL["faster_rcnn"])
    before = model.backbone.neck
    with pytest.raises(UserError, match="the detector's heads and anchors are made for"):
        replace_neck(model, "drfpn", keep=keep)
    assert model.backbone.neck is before


def test_a_detector_whose_losses_need_its_pyramid_keeps_it() -> None:
    model = build_detector("faster_rcnn_lite0_augfpn", 3, **SMALL["faster_rcnn"])
    with pytest.raises(UserError, match="needs the laterals of AugFPN"):
        replace_neck(model)


def test_keep_needs_a_pyramid_of_this_library() -> None:
    class Own(nn.Module):
        def __init__(self, in_channels, out_channels, extra_blocks=None) -> None:
            super().__init__()
            self.fpn = FPN(in_channels, out_channels, extra_blocks)

        def forward(self, maps: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return self.fpn(maps)

    model = build_detector("faster_rcnn_lite0_fpn", 3, **SMALL["faster_rcnn"])
    with pytest.raises(UserError, match="`keep=True` needs a neck of this library"):
        replace_neck(model, Own, keep=True)
    assert isinstance(model.backbone.neck, FPN)
