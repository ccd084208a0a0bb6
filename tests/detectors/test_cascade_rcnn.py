import pytest
import torch
from torch.testing import assert_close

from drfpn import build_detector
from drfpn.detectors.cascade_rcnn import STAGES, AgnosticBoxPredictor, _contains
from drfpn.ops import PADDING_SCORE
from tests.detectors.scenes import SMALL_REGIONS, loss_history, regions_of_a_blank_scene

SMALL = SMALL_REGIONS


@pytest.mark.slow
def test_stages_are_those_of_the_paper() -> None:
    model = build_detector("cascade_rcnn_lite0_fpn", 3, **SMALL)
    stages = model.roi_heads.stages
    assert [stage.proposal_matcher.high_threshold for stage in stages] == [0.5, 0.6, 0.7]
    assert model.roi_heads.weights == [1, 0.5, 0.25]
    assert stages[1].box_coder.weights == pytest.approx((20, 20, 10, 10))
    assert STAGES[2].deviations == (0.033, 0.033, 0.067, 0.067)


def test_stages_that_move_nothing_detect_as_one_stage_does() -> None:
    """With zero deltas and the same scores in each stage, the cascade is its last stage alone."""
    torch.manual_seed(0)
    model = build_detector("cascade_rcnn_lite0_fpn", 3, **SMALL, box_score_thresh=0.0).eval()
    stages = model.roi_heads.stages
    for stage in stages:
        stage.load_state_dict(stages[0].state_dict())
        torch.nn.init.zeros_(stage.box_predictor.bbox_pred.weight)
        torch.nn.init.zeros_(stage.box_predictor.bbox_pred.bias)
    blank = regions_of_a_blank_scene()
    found = [heads.find(*blank) for heads in (model.roi_heads, stages[-1])]
    real = found[0].scores > PADDING_SCORE
    assert real.any()
    for ours, single in zip(found[0][:3], found[1][:3], strict=True):
        assert_close(ours[real], single[real])


def test_boxes_are_refined_from_stage_to_stage() -> None:
    """A constant delta of one tenth of the width, three times, each in its stage's unit."""
    model = build_detector("cascade_rcnn_lite0_fpn", 1, **SMALL, box_score_thresh=0.0).eval()
    for stage, settings in zip(model.roi_heads.stages, STAGES, strict=True):
        torch.nn.init.zeros_(stage.box_predictor.bbox_pred.weight)
        stage.box_predictor.bbox_pred.bias.data = torch.tensor([0.1 / settings.deviations[0], 0, 0, 0])
    features, _, _, images = regions_of_a_blank_scene(256)
    regions = torch.tensor([[[50.0, 60, 90, 100]]])
    found = model.roi_heads.find(features, regions, torch.ones(1, 1, dtype=torch.bool), images)
    assert_close(found.boxes, torch.tensor([[[62.0, 60, 102, 100]]]), rtol=0, atol=1e-3)


def test_deltas_are_the_same_for_every_class() -> None:
    scores, deltas = AgnosticBoxPredictor(8, 3)(torch.randn(5, 8))
    assert scores.shape == (5, 4)
    assert_close(deltas.view(5, 4, 4), deltas[:, None, :4].expand(5, 4, 4))


def test_annotated_boxes_are_recognised_among_the_samples() -> None:
    boxes = torch.tensor([[0.0, 0, 1, 1], [2, 2, 3, 3]])
    assert _contains(boxes, torch.tensor([[2.0, 2, 3, 3], [0, 0, 1, 2]])).tolist() == [True, False]
    assert _contains(boxes[:0], boxes).tolist() == [False, False]


@pytest.mark.slow
def test_it_learns_two_images_by_heart() -> None:
    torch.manual_seed(0)
    options = SMALL | {"width": 32, "box_batch_size_per_image": 64, "anchor_scale": 4}
    model = build_detector("cascade_rcnn_lite0_drfpn", 3, frozen_stages=-1, norm_eval=False, **options).train()
    history = loss_history(model, steps=30)
    assert sum(history[-5:]) < 0.5 * sum(history[:5]), history
