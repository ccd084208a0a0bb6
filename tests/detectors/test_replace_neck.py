import pytest
import torch
from torch import nn
from torchvision.models import detection
from torchvision.ops import FeaturePyramidNetwork

from drfpn import DRFPN, FPN, PAFPN, replace_neck
from drfpn.utils.errors import UserError

BUILDERS = {
    "faster": detection.fasterrcnn_resnet50_fpn,
    "mask": detection.maskrcnn_resnet50_fpn,
    "keypoint": detection.keypointrcnn_resnet50_fpn,
    "retinanet": detection.retinanet_resnet50_fpn,
    "fcos": detection.fcos_resnet50_fpn,
}
FEW = {"rpn_post_nms_top_n_test": 20, "box_detections_per_img": 5}  # masks and keypoints of each take their time


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copy what a new pyramid must not touch: all but the old one's own convolutions."""
    own = ("backbone.fpn.inner_blocks", "backbone.fpn.layer_blocks")
    return {key: value.clone() for key, value in model.state_dict().items() if not key.startswith(own)}


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILDERS)
def test_every_torchvision_detector_takes_another_pyramid_and_keeps_all_else(name) -> None:
    options = {} if name in ("retinanet", "fcos") else FEW
    model = BUILDERS[name](weights=None, weights_backbone=None, min_size=64, max_size=96, **options).eval()
    original, before = model.backbone.fpn, weights(model)
    for neck, kind, choice in [("pafpn", PAFPN, {}), ("drfpn", DRFPN, {"context": None, "convention": "release"})]:
        model.backbone.fpn = original
        assert replace_neck(model, neck, **choice) is model
        assert isinstance(model.backbone.fpn, kind)
        assert model.backbone.fpn.out_channels == 256
        after = model.state_dict()
        assert {key for key in after if not key.startswith("backbone.fpn")} <= before.keys()
        for key, value in before.items():
            assert torch.equal(after[key], value), key
        assert not model.backbone.fpn.training
        with torch.no_grad():
            (output,) = model([torch.rand(3, 64, 80)])
        assert {"boxes", "labels", "scores"} <= output.keys()


class Small(nn.Module):
    """A detector as far as replace_neck looks: a body of strided convolutions under torchvision's pyramid."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.body = Body()
        self.backbone.fpn = FeaturePyramidNetwork([4, 6], 8)
        self.head = nn.Conv2d(8, 1, 1)


class Body(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4))
        self.second = nn.Conv2d(4, 6, 3, stride=2, padding=1)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        first = self.first(image)
        return {"0": first, "1": self.second(first)}


def test_a_class_or_another_name_will_do() -> None:
    class Mine(FPN):
        pass

    assert isinstance(replace_neck(Small(), "pafpn").backbone.fpn, PAFPN)
    assert isinstance(replace_neck(Small(), Mine).backbone.fpn, Mine)


def test_a_pyramid_that_was_put_in_can_be_replaced_again() -> None:
    model = replace_neck(replace_neck(Small(), "drfpn"), "pafpn")
    assert isinstance(model.backbone.fpn, PAFPN)


def test_the_new_pyramid_takes_dtype_and_channels_of_the_old_one() -> None:
    fpn = replace_neck(Small().double()).backbone.fpn
    assert {p.dtype for p in fpn.parameters()} == {torch.float64}
    assert (fpn.in_channels, fpn.out_channels) == ([4, 6], 8)


def test_statistics_of_batchnorm_are_left_alone_in_training() -> None:
    model = Small().train()
    before = weights(model)
    replace_neck(model)
    assert model.backbone.fpn.training
    after = model.state_dict()
    for key, value in before.items():
        assert torch.equal(after[key], value), key


def test_a_layer_put_into_evaluation_stays_there() -> None:
    """As one does who keeps BatchNorm's statistics in training."""
    model = Small().train()
    norm = model.backbone.body.first[1].eval()
    replace_neck(model)
    assert not norm.training
    assert model.backbone.body.training


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(UserError, match="contxt"):
        replace_neck(Small(), "drfpn", contxt=None)


def test_levels_that_do_not_halve_are_named() -> None:
    model = detection.fasterrcnn_mobilenet_v3_large_fpn(weights=None, weights_backbone=None)
    before = model.backbone.fpn
    with pytest.raises(UserError, match=r"Level '\d' of the backbone has stride 32, but twice the stride") as caught:
        replace_neck(model)
    assert "\n" not in str(caught.value)
    assert model.backbone.fpn is before


def test_what_has_no_pyramid_is_refused() -> None:
    with pytest.raises(UserError, match="Linear has neither an FPN of torchvision"):
        replace_neck(nn.Linear(1, 1))
    with pytest.raises(UserError, match="Did you mean 'drfpn'"):
        replace_neck(nn.Linear(1, 1), "drfpm")
