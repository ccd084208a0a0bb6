import pytest
import torch
from torch.testing import assert_close

from drfpn import build_detector
from drfpn.detectors.cascade_rcnn import STAGES, AgnosticBoxPredictor, _contains
from tests.detectors.scenes import loss_history, scene

SMALL = {"width": 16, "min_size": 96, "max_size": 160, "representation_size": 32, "rpn_post_nms_top_n_test": 50}


@pytest.mark.slow
def test_trainable_parameters() -> None:
    def trainable(neck: str, **options: object) -> int:
        model = build_detector(f"cascade_rcnn_r50_{neck}", neck_options=options)
        return sum(p.numel() for p in model.parameters() if p.requires_grad)

    assert trainable("fpn") == 69_169_422
    assert trainable("drfpn", convention="release") == 76_024_081


def test_stages_are_those_of_the_paper() -> None:
    model = build_detector("cascade_rcnn_lite0_fpn", 3, **SMALL)
    stages = model.roi_heads.stages
    assert [stage.proposal_matcher.high_threshold for stage in stages] == [0.5, 0.6, 0.7]
    assert model.roi_heads.weights == [1, 0.5, 0.25]
    assert stages[1].box_coder.weights == pytest.approx((20, 20, 10, 10))
    assert STAGES[2].deviations == (0.033, 0.033, 0.067, 0.067)


@pytest.mark.parametrize("neck", ["fpn", "pafpn", "drfpn"])
def test_it_keeps_torchvisions_contract(neck) -> None:
    torch.manual_seed(0)
    model = build_detector(f"cascade_rcnn_lite0_{neck}", 3, **SMALL, box_score_thresh=0.0)
    images, targets = scene((70, 90), (120, 50))
    losses = model.train()(images, targets)
    terms = {f"loss_{kind}_{i}" for kind in ("classifier", "box_reg") for i in range(3)}
    assert set(losses) == terms | {"loss_objectness", "loss_rpn_box_reg"}
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    for output in model.eval()(images):
        assert set(output) == {"boxes", "labels", "scores"}
        assert len(output["boxes"])
        assert set(output["labels"].tolist()) <= {1, 2, 3}


def test_images_without_objects_train() -> None:
    model = build_detector("cascade_rcnn_lite0_drfpn", 3, **SMALL).train()
    images, targets = scene((64, 64), (64, 96))
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    for batch in ([empty, targets[1]], [empty, empty]):
        total = sum(model(images, batch).values())
        total.backward()
        assert total.isfinite()


def test_stages_that_move_nothing_detect_as_one_stage_does() -> None:
    """With zero deltas and the same scores in each stage, the cascade is its last stage alone."""
    torch.manual_seed(0)
    model = build_detector("cascade_rcnn_lite0_fpn", 3, **SMALL, box_score_thresh=0.0).eval()
    stages = model.roi_heads.stages
    for stage in stages:
        stage.load_state_dict(stages[0].state_dict())
        torch.nn.init.zeros_(stage.box_predictor.bbox_pred.weight)
        torch.nn.init.zeros_(stage.box_predictor.bbox_pred.bias)
    features = {str(i): torch.randn(1, 16, 32 >> i, 32 >> i) for i in range(4)}
    proposals = [torch.tensor([[4.0, 4, 60, 60], [10, 20, 90, 110], [0, 0, 127, 127]])]
    (cascade,), _ = model.roi_heads(features, proposals, [(128, 128)])
    (single,), _ = stages[-1](features, proposals, [(128, 128)])
    assert_close(cascade, single)


def test_boxes_are_refined_from_stage_to_stage() -> None:
    """A constant delta of one tenth of the width, three times, each in its stage's unit."""
    model = build_detector("cascade_rcnn_lite0_fpn", 1, **SMALL, box_score_thresh=0.0).eval()
    for stage, settings in zip(model.roi_heads.stages, STAGES, strict=True):
        torch.nn.init.zeros_(stage.box_predictor.bbox_pred.weight)
        stage.box_predictor.bbox_pred.bias.data = torch.tensor([0.1 / settings.deviations[0], 0, 0, 0])
    features = {str(i): torch.randn(1, 16, 64 >> i, 64 >> i) for i in range(4)}
    (output,), _ = model.roi_heads(features, [torch.tensor([[50.0, 60, 90, 100]])], [(256, 256)])
    assert_close(output["boxes"], torch.tensor([[62.0, 60, 102, 100]]), rtol=0, atol=1e-3)


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
