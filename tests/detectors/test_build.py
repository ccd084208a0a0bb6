import pytest
from torch import nn

from drfpn import FPN, build_detector, list_models
from drfpn.backbones import BACKBONES
from drfpn.detectors import parse_name
from drfpn.errors import UserError


def test_every_name_is_listed_once_and_can_be_taken_apart() -> None:
    names = list_models()
    assert len(names) == len(set(names))
    for name in names:
        detector, body, neck = parse_name(name)
        assert f"{detector}_{body}_{neck}" == name
        assert body in BACKBONES


def test_any_timm_backbone_may_stand_in_the_middle() -> None:
    assert parse_name("faster_rcnn_mobilenetv3_large_100_pafpn") == ("faster_rcnn", "mobilenetv3_large_100", "pafpn")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("faster_rcnn_r50_drfpm", "Did you mean 'faster_rcnn_r50_drfpn'?"),
        ("fater_rcnn_r50_fpn", "Did you mean 'faster_rcnn_r50_fpn'?"),
        ("drfpn", "DETECTOR_BACKBONE_PYRAMID"),
        ("faster_rcnn_fpn", "DETECTOR_BACKBONE_PYRAMID"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name, said) -> None:
    with pytest.raises(UserError) as caught:
        build_detector(name)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"box_score_tresh": 0.1},
            "'box_score_tresh' is not an option of 'faster_rcnn'. Did you mean 'box_score_thresh'?",
        ),
        ({"neck_options": {"contxt": None}}, "not an option of the pyramid 'drfpn'. Did you mean 'context'?"),
        ({"num_classes": 0}, "must be at least 1"),
    ],
)
def test_an_unknown_option_is_answered_with_the_nearest(options, said) -> None:
    with pytest.raises(UserError) as caught:
        build_detector("faster_rcnn_lite0_drfpn", **options)
    assert said in str(caught.value)


def test_options_reach_the_pyramid() -> None:
    model = build_detector("faster_rcnn_lite0_drfpn", 3, width=16, neck_options={"context": None})
    assert isinstance(model.backbone.neck.top, nn.Conv2d)
    assert model.backbone.neck.out_channels == 16


def test_a_pyramid_of_ones_own_takes_the_place_of_the_named_one() -> None:
    class Mine(FPN):
        pass

    assert isinstance(build_detector("faster_rcnn_lite0_drfpn", 3, neck=Mine, width=16).backbone.neck, Mine)
