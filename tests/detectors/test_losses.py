import pytest
import torch
from torch.testing import assert_close
from torchvision.models.detection.roi_heads import fastrcnn_loss

from drfpn import build_detector
from drfpn.detectors.losses import balanced_l1, roi_losses, smooth_l1
from drfpn.utils.errors import UserError
from tests.detectors.scenes import SMALL, scene

POINTS = [0.01, 0.1, 0.5, 1.0, 2.0]


@pytest.mark.parametrize("sign", [1, -1])
def test_balanced_l1_has_the_published_values(sign) -> None:
    values = [balanced_l1(torch.tensor([sign * d]), torch.zeros(1)) for d in POINTS]
    expected = torch.tensor([0.000449, 0.031353, 0.400568, 1.078594, 2.578594])
    assert_close(torch.stack(values), expected, rtol=0, atol=1e-6)


def test_the_gradient_of_balanced_l1_is_a_logarithm_below_one_and_constant_above() -> None:
    d = torch.tensor([0.1, 0.5, 1 - 1e-6, 1, 3], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(balanced_l1(d, torch.zeros_like(d)), d)
    expected = torch.tensor([0.533828, 1.177720, 1.5, 1.5, 1.5], dtype=torch.float64)
    assert_close(gradient, expected, rtol=0, atol=2e-6)


def test_regions_have_torchvisions_losses_by_default() -> None:
    logits, deltas = torch.randn(7, 4), torch.randn(7, 16)
    labels = [torch.tensor([0, 3, 1]), torch.tensor([2, 0, 0, 1])]
    targets = [torch.randn(3, 4), torch.randn(4, 4)]
    assert_close(roi_losses(logits, deltas, labels, targets, smooth_l1), fastrcnn_loss(logits, deltas, labels, targets))


def test_regions_of_no_object_have_no_box_loss() -> None:
    _, box = roi_losses(
        torch.randn(3, 4), torch.randn(3, 16), [torch.zeros(3, dtype=int)], [torch.randn(3, 4)], balanced_l1
    )
    assert box == 0


@pytest.mark.parametrize("name", ["faster_rcnn", "mask_rcnn", "cascade_rcnn", "cascade_mask_rcnn"])
def test_every_two_stage_detector_takes_libras_loss_and_sampler(name) -> None:
    images, targets = scene((70, 90), (64, 64))
    values = []
    for options in ({}, {"box_loss": "balanced_l1"}, {"box_loss": "balanced_l1", "sampler": "iou_balanced"}):
        torch.manual_seed(0)
        model = build_detector(f"{name}_lite0_libra", 3, **SMALL[name] | options).train()
        values.append(model(images, targets))
    plain, loss, both = values
    assert {key for key in plain if plain[key] != loss[key]} == {key for key in plain if "loss_box_reg" in key}
    assert any(both[key] != loss[key] for key in both if "classifier" in key)  # of other RoIs
    sum(both.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


def test_each_stage_of_a_cascade_splits_the_overlaps_of_its_own_negatives() -> None:
    model = build_detector("cascade_rcnn_lite0_libra", 3, **SMALL["cascade_rcnn"], sampler="iou_balanced")
    assert [stage.fg_bg_sampler.max_iou for stage in model.roi_heads.stages] == [0.5, 0.6, 0.7]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"box_loss": "balanced_l2"}, "`box_loss` must be 'smooth_l1' or 'balanced_l1', not 'balanced_l2'. Did"),
        ({"sampler": "iou"}, "`sampler` must be 'random', 'iou_balanced' or 'iou_balanced_release', not 'iou'."),
        ({"sampler": None}, "not None"),
    ],
)
def test_an_unknown_loss_or_sampler_is_answered_with_those_that_there_are(options, message) -> None:
    with pytest.raises(UserError) as caught:
        build_detector("cascade_rcnn_lite0_libra", 3, width=16, **options)
    assert message in str(caught.value)
