import pytest
from torch import nn

from drfpn import FPN, build_detector, list_models
from drfpn.backbones import BACKBONES, PLAIN_BACKBONES
from drfpn.detectors import parse_name
from drfpn.utils.errors import UsageError, UserError


def test_every_name_is_listed_once_and_can_be_taken_apart() -> None:
    names = list_models()
    assert len(names) == len(set(names))
    for name in names:
        detector, body, neck = parse_name(name)
        assert f"{detector}_{body}_{neck}" == name
        assert body in BACKBONES | PLAIN_BACKBONES


def test_any_timm_backbone_may_stand_in_the_middle() -> None:
    assert parse_name("faster_rcnn_mobilenetv3_large_100_pafpn") == ("faster_rcnn", "mobilenetv3_large_100", "pafpn")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("faster_rcnn_r50_drfpm", "Did you mean 'faster_rcnn_r50_drfpn'?"),
        ("fater_rcnn_r50_fpn", "Did you mean 'faster_rcnn_r50_fpn'?"),
        ("drfpn", "DETECTOR_BACKBONE_NECK"),
        ("faster_rcnn_fpn", "DETECTOR_BACKBONE_NECK"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name, message) -> None:
    with pytest.raises(UserError) as caught:
        build_detector(name)
    assert message in str(caught.value)
    assert isinstance(caught.value, UsageError)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"box_score_tresh": 0.1},
            "'box_score_tresh' is not an option of 'faster_rcnn'. Did you mean 'box_score_thresh'?",
        ),
        ({"neck_options": {"contxt": None}}, "not an option of the neck 'drfpn'. Did you mean 'context'?"),
        ({"num_classes": 0}, "foreground classes, at least 1"),
    ],
)
def test_an_unknown_option_is_answered_with_the_nearest(options, message) -> None:
    with pytest.raises(UserError) as caught:
        build_detector("faster_rcnn_lite0_drfpn", **options)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"backbone": 1}, "backbone"),
        ({"body": 1}, "body"),
        ({"rpn_head": None}, "rpn_head"),
        ({"neck_options": {"in_channels": (1, 2)}}, "in_channels"),
        ({"neck_options": {"extra_blocks": None}}, "extra_blocks"),
    ],
    ids=str,
)
def test_what_the_detector_decides_itself_is_no_option(options, key) -> None:
    with pytest.raises(UserError, match=f"'{key}' is not an option"):
        build_detector("faster_rcnn_lite0_drfpn", 3, width=16, **options)


def test_options_reach_the_pyramid() -> None:
    model = build_detector("faster_rcnn_lite0_drfpn", 3, width=16, neck_options={"context": None})
    assert isinstance(model.backbone.neck.top, nn.Conv2d)
    assert model.backbone.neck.out_channels == 16


def test_a_pyramid_of_ones_own_takes_the_place_of_the_named_one() -> None:
    class Mine(FPN):
        def __init__(self, in_channels, out_channels, extra_blocks, *, mark=""):
            super().__init__(in_channels, out_channels, extra_blocks)
            self.mark = mark

    neck = build_detector("faster_rcnn_lite0_drfpn", 3, neck=Mine, width=16, neck_options={"mark": "x"}).backbone.neck
    assert isinstance(neck, Mine)
    assert neck.mark == "x"
    assert neck.in_channels == [24, 40, 112, 320]
    with pytest.raises(UserError, match="'context' is not an option"):
        build_detector("faster_rcnn_lite0_drfpn", 3, neck=Mine, width=16, neck_options={"context": None})
