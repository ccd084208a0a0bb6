import pytest
import torch
from torch.testing import assert_close

from drfpn import build_detector
from drfpn.detectors.cascade_rcnn import STAGES, ClassAgnosticBoxPredictor, _rows_in
from drfpn.ops import PADDING_SCORE
from tests.detectors.scenes import SMALL_TWO_STAGE, loss_history, roi_head_inputs

SMALL = SMALL_TWO_STAGE


@pytest.mark.slow
def test_stages_are_those_of_the_paper() -> None:
    model = build_detector("cascade_rcnn_lite0_fpn", 3, **SMALL)
    stages = model.roi_heads.stages
    assert [stage.proposal_matcher.high_threshold for stage in stages] == [0.5, 0.6, 0.7]
    assert model.roi_heads.loss_weights == [1, 0.5, 0.25]
    assert stages[1].box_coder.weights == pytest.approx((20, 20, 10, 10))
    assert STAGES[2].stds == (0.033, 0.033, 0.067, 0.067)


def test_stages_that_move_nothing_detect_as_one_stage_does() -> None:
    """With zero deltas and the same scores in each stage, the cascade is its last stage alone."""
    torch.manual_seed(0)
    model = build_detector("cascade_rcnn_lite0_fpn", 3, **SMALL, box_score_thresh=0.0).eval()
    stages = model.roi_heads.stages
    for stage in stages:
        stage.load_state_dict(stages[0].state_dict())
        torch.nn.init.zeros_(stage.box_predictor.bbox_pred.weight)
        torch.nn.init.zeros_(stage.box_predictor.bbox_pred.bias)
    inputs = roi_head_inputs()
    cascade, last_stage = (heads.predict(*inputs) for heads in (model.roi_heads, stages[-1]))
    valid = cascade.scores > PADDING_SCORE
    assert valid.any()
    for actual, expected in zip(cascade[:3], last_stage[:3], strict=True):
        assert_close(actual[valid], expected[valid])


def test_boxes_are_refined_from_stage_to_stage() -> None:
    """A constant delta of one tenth of the width, three times, each in its stage's unit."""
    model = build_detector("cascade_rcnn_lite0_fpn", 1, **SMALL, box_score_thresh=0.0).eval()
    for stage, settings in zip(model.roi_heads.stages, STAGES, strict=True):
        torch.nn.init.zeros_(stage.box_predictor.bbox_pred.weight)
        stage.box_predictor.bbox_pred.bias.data = torch.tensor([0.1 / settings.stds[0], 0, 0, 0])
    features, _, _, images = roi_head_inputs(256)
    proposals = torch.tensor([[[50.0, 60, 90, 100]]])
    detections = model.roi_heads.predict(features, proposals, torch.ones(1, 1, dtype=torch.bool), images)
    assert_close(detections.boxes, torch.tensor([[[62.0, 60, 102, 100]]]), rtol=0, atol=1e-3)


def test_deltas_are_the_same_for_every_class() -> None:
    scores, deltas = ClassAgnosticBoxPredictor(8, 3)(torch.randn(5, 8))
    assert scores.shape == (5, 4)
    assert_close(deltas.view(5, 4, 4), deltas[:, None, :4].expand(5, 4, 4))


def test_annotated_boxes_are_recognized_among_the_samples() -> None:
    boxes = torch.tensor([[0.0, 0, 1, 1], [2, 2, 3, 3]])
    assert _rows_in(boxes, torch.tensor([[2.0, 2, 3, 3], [0, 0, 1, 2]])).tolist() == [True, False]
    assert _rows_in(boxes[:0], boxes).tolist() == [False, False]


@pytest.mark.slow
def test_it_learns_two_images_by_heart() -> None:
    torch.manual_seed(0)
    options = SMALL | {"width": 32, "box_batch_size_per_image": 64, "anchor_scale": 4}
    model = build_detector("cascade_rcnn_lite0_drfpn", 3, frozen_stages=-1, norm_eval=False, **options).train()
    history = loss_history(model, steps=30)
    assert sum(history[-5:]) < 0.5 * sum(history[:5]), history
