import pytest
import torch
from torch.testing import assert_close
from torchvision.models.detection.roi_heads import paste_masks_in_image

from drfpn import build_detector
from drfpn.detectors.postprocess import PaddedDetections, paste_masks
from tests.detectors.scenes import SMALL_TWO_STAGE, all_scores, loss_history, roi_head_inputs, scene


@pytest.mark.parametrize("name", ["mask_rcnn", "cascade_mask_rcnn"])
def test_a_mask_is_that_of_its_label(name) -> None:
    """With zero weights, class k of every stage predicts sigmoid of its bias k."""
    heads = build_detector(f"{name}_lite0_fpn", 3, **SMALL_TWO_STAGE).eval().roi_heads
    for stage in heads.stages:
        torch.nn.init.zeros_(stage.mask_predictor.mask_fcn_logits.weight)
        stage.mask_predictor.mask_fcn_logits.bias.data = torch.tensor([1.0, 2.0, 3.0])
    features, proposals, _, images = roi_head_inputs()
    labels = torch.tensor([[3, 1, 2]])
    detections = PaddedDetections(proposals, torch.ones(1, 3), labels)
    masks = heads.stages[-1].predict_masks(features, detections, images)
    assert masks.shape == (1, 3, 28, 28)
    assert_close(masks, labels[..., None, None].float().sigmoid().expand(1, 3, 28, 28))


def test_the_masks_of_a_cascade_are_the_mean_of_its_stages() -> None:
    model = build_detector("cascade_mask_rcnn_lite0_fpn", 3, **SMALL_TWO_STAGE, box_score_thresh=0.0).eval()
    features, proposals, valid, images = roi_head_inputs()
    detections = model.roi_heads.predict(features, proposals, valid, images)
    stages = [stage.predict_masks(features, detections, images) for stage in model.roi_stages]
    assert_close(detections.masks, sum(stages) / 3)


def test_crops_are_pasted_into_their_boxes() -> None:
    model = build_detector("mask_rcnn_lite0_drfpn", 3, **SMALL_TWO_STAGE, **all_scores("mask_rcnn")).eval()
    images, _ = scene((70, 90))
    (crops,), (full,) = model.detect(images), model(images)
    assert crops["crops"].shape[1:] == (1, 28, 28)
    assert_close(full["masks"], paste_masks_in_image(crops["crops"], crops["boxes"], (70, 90)))
    assert_close(paste_masks(crops["crops"], crops["boxes"], (70, 90)), full["masks"][:, 0] >= 0.5)
    for mask, (x1, y1, x2, y2) in zip(full["masks"][:, 0], full["boxes"].tolist(), strict=True):
        rows, columns = mask.nonzero().unbind(1)
        if len(rows):  # torchvision widens a mask by one of its 28 cells on each side
            margin_x, margin_y = (x2 - x1) / 28 + 1, (y2 - y1) / 28 + 1
            assert columns.min() >= x1 - margin_x
            assert columns.max() <= x2 + margin_x
            assert rows.min() >= y1 - margin_y
            assert rows.max() <= y2 + margin_y


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mask_rcnn", "cascade_mask_rcnn"])
def test_it_learns_two_images_and_their_masks_by_heart(name) -> None:
    options = SMALL_TWO_STAGE | {"width": 32, "box_batch_size_per_image": 64, "anchor_scale": 4}
    model = build_detector(f"{name}_lite0_drfpn", 3, frozen_stages=-1, norm_eval=False, **options).train()
    images, targets = scene((96, 128), (128, 96))
    before = {key: value.item() for key, value in model(images, targets).items() if "mask" in key}
    loss_history(model, steps=40)
    after = model(images, targets)
    for key, value in before.items():
        assert after[key] < 0.6 * value, key
