import pytest
import torch
from torch import nn
from torchvision.models import detection

from drfpn import DRFPN, PAFPN, replace_neck
from drfpn.errors import UserError

BUILDERS = {
    "faster": detection.fasterrcnn_resnet50_fpn,
    "mask": detection.maskrcnn_resnet50_fpn,
    "keypoint": detection.keypointrcnn_resnet50_fpn,
    "retinanet": detection.retinanet_resnet50_fpn,
    "fcos": detection.fcos_resnet50_fpn,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILDERS)
def test_every_torchvision_detector_takes_another_pyramid_and_keeps_all_else(name) -> None:
    model = BUILDERS[name](weights=None, weights_backbone=None, min_size=64, max_size=96).eval()
    before = {key: value.clone() for key, value in model.state_dict().items() if not key.startswith("backbone.fpn")}
    extra = {key: value.clone() for key, value in model.state_dict().items() if "extra_blocks" in key}
    assert replace_neck(model, "drfpn", context=None) is model
    assert isinstance(model.backbone.fpn, DRFPN)
    after = model.state_dict()
    assert {key for key in after if not key.startswith("backbone.fpn")} == before.keys()
    for key, value in (before | extra).items():
        assert torch.equal(after[key], value), key
    assert not model.backbone.fpn.training
    with torch.no_grad():
        (output,) = model([torch.rand(3, 64, 80)])
    assert {"boxes", "labels", "scores"} <= output.keys()


def test_a_class_or_another_name_will_do() -> None:
    model = detection.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    assert isinstance(replace_neck(model, "pafpn").backbone.fpn, PAFPN)


def test_levels_that_do_not_halve_are_named() -> None:
    model = detection.fasterrcnn_mobilenet_v3_large_fpn(weights=None, weights_backbone=None)
    before = model.backbone.fpn
    with pytest.raises(UserError, match=r"Level '\d' of the backbone has stride 32, but twice the stride"):
        replace_neck(model)
    assert model.backbone.fpn is before


def test_what_has_no_pyramid_is_refused() -> None:
    with pytest.raises(UserError, match="Linear has no torchvision pyramid"):
        replace_neck(nn.Linear(1, 1))
    with pytest.raises(UserError, match="Did you mean 'drfpn'"):
        replace_neck(nn.Linear(1, 1), "drfpm")
