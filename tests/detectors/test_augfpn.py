import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torchvision.ops import roi_align

from drfpn import build_detector
from drfpn.detectors.augfpn import ConsistentSupervision, LevelsWithLaterals, SoftRoIPool
from drfpn.detectors.losses import roi_losses, smooth_l1
from drfpn.detectors.roi_heads import RoIPool
from drfpn.evaluation.flops import model_complexity
from drfpn.necks.base import Level
from drfpn.utils.errors import UserError
from tests.detectors.scenes import SMALL, scene

STRIDES = (4, 8, 16, 32)
LEVELS = [Level(str(i), stride) for i, stride in enumerate(STRIDES)]
BOXES = [torch.tensor([[4.0, 4, 60, 60], [10, 20, 90, 110]]), torch.tensor([[0.0, 0, 127, 127]])]
DISABLED = {"roi_pool": "level", "consistent_supervision": 0}


def levels() -> dict[str, torch.Tensor]:
    return {str(i): torch.randn(2, 6, 32 >> i, 32 >> i) for i in range(4)}


def crops(features: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    return [roi_align(m, BOXES, 7, 1 / s, 2) for m, s in zip(features.values(), STRIDES, strict=True)]


def on_meta(name: str, **options: object) -> nn.Module:
    with torch.device("meta"):
        return build_detector(name, **options)


def trainable(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_parameter_counts() -> None:
    with_neck = 41_527_712 + 1_777_411
    assert trainable(on_meta("faster_rcnn_r50_augfpn", **DISABLED)) == with_neck
    assert trainable(on_meta("faster_rcnn_r50_augfpn", consistent_supervision=0)) == with_neck + 271_620
    assert trainable(on_meta("faster_rcnn_r50_augfpn")) == with_neck + 271_620 + 14_306_705
    assert trainable(on_meta("cascade_rcnn_r50_augfpn")) == 69_169_422 + 1_777_411


def test_macs_of_soft_roi_selection_are_counted() -> None:
    soft, hard = (model_complexity(on_meta("faster_rcnn_r50_augfpn", roi_pool=pool)).macs for pool in ("soft", "level"))
    assert soft - hard == 1000 * 49 * (1024 * 256 + 256 * 4 * 9)


def test_soft_pooling_is_the_weighted_sum_over_all_levels() -> None:
    features, pool = levels(), SoftRoIPool(LEVELS, 7, 6)
    pooled = crops(features)
    weights = pool.select(torch.cat(pooled, dim=1)).sigmoid()
    expected = sum(weights[:, i : i + 1] * crop for i, crop in enumerate(pooled))
    assert_close(pool(features, BOXES, [(128, 128)] * 2), expected)


def test_soft_pooling_of_no_rois_is_empty_and_of_nan_coordinates_stays_in_bounds() -> None:
    features, pool = levels(), SoftRoIPool(LEVELS, 7, 6)
    assert pool(features, [torch.zeros(0, 4)] * 2, [(128, 128)] * 2).shape == (0, 6, 7, 7)
    invalid = [torch.full((1, 4), torch.nan), BOXES[1]]
    assert_close(pool(features, invalid, [(128, 128)] * 2)[1:], pool(features, BOXES, [(128, 128)] * 2)[2:])


def test_consistent_supervision_sums_the_roi_losses_over_the_laterals() -> None:
    class Predictor(nn.Module):
        def forward(self, x):
            return x[:, :4], x[:, 4:20]

    head = nn.Sequential(nn.Flatten(), nn.Linear(6 * 49, 20))
    auxiliary = ConsistentSupervision(RoIPool(LEVELS, 7), head, Predictor(), 0.25)
    features = LevelsWithLaterals(levels(), levels())
    labels, box_targets = [torch.tensor([0, 3]), torch.tensor([1])], [torch.randn(2, 4), torch.randn(1, 4)]
    losses = auxiliary(features, BOXES, labels, box_targets, smooth_l1)
    outputs = head(torch.cat(crops(features.laterals)))  # the mean over four laterals, as one batch
    expected = roi_losses(outputs[:, :4], outputs[:, 4:], labels * 4, box_targets * 4, smooth_l1)
    assert_close((losses["loss_classifier_laterals"], losses["loss_box_reg_laterals"]), expected)


@pytest.mark.parametrize("name", ["faster_rcnn", "mask_rcnn"])
def test_the_whole_method_trains_and_detects(name) -> None:
    options = SMALL[name] | {"box_score_thresh": 0.0}
    model = build_detector(f"{name}_lite0_augfpn", 3, **options)
    images, targets = scene((70, 90), (120, 50))
    losses = model.train()(images, targets)
    assert {"loss_classifier_laterals", "loss_box_reg_laterals"} <= set(losses)
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
    assert all(len(output["boxes"]) for output in model.eval()(images))
    with torch.autocast("cpu", torch.bfloat16):
        assert sum(model.train()(images, targets).values()).isfinite()


def test_inference_does_not_depend_on_the_auxiliary_head() -> None:
    model = build_detector("faster_rcnn_lite0_augfpn", 3, **SMALL["faster_rcnn"], box_score_thresh=0.0).eval()
    images, _ = scene((70, 90))
    before = model(images)
    for p in model.roi_heads.auxiliary.parameters():
        nn.init.constant_(p, torch.nan)
    assert_close(model(images), before)


def test_each_part_can_be_disabled() -> None:
    images, targets = scene((70, 90))
    model = build_detector("faster_rcnn_lite0_augfpn", 3, **SMALL["faster_rcnn"], **DISABLED).train()
    assert type(model.roi_heads.box_roi_pool) is RoIPool
    assert not any("laterals" in key for key in model(images, targets))


def test_mask_pool_has_the_type_of_the_box_pool_and_its_own_parameters() -> None:
    heads = build_detector("mask_rcnn_lite0_augfpn", 3, **SMALL["mask_rcnn"]).roi_heads
    assert isinstance(heads.mask_roi_pool, SoftRoIPool)
    assert heads.mask_roi_pool.output_size == (14, 14)
    assert heads.mask_roi_pool.select is not heads.box_roi_pool.select


def test_each_stage_of_a_cascade_has_a_soft_pool_of_its_own() -> None:
    model = build_detector("cascade_rcnn_lite0_fpn", 3, **SMALL["cascade_rcnn"], roi_pool="soft")
    assert len({stage.box_roi_pool.select[0].weight for stage in model.roi_heads.stages}) == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("faster_rcnn_lite0_fpn", "needs the laterals of the neck 'augfpn', not of FPN."),
        ("cascade_rcnn_lite0_augfpn", "is not an option of Cascade R-CNN"),
    ],
)
def test_consistent_supervision_needs_augfpn(name, message) -> None:
    with pytest.raises(UserError) as caught:
        build_detector(name, 3, width=16, consistent_supervision=0.25)
    assert message in str(caught.value)


@pytest.mark.parametrize("weight", [-1, "yes"])
def test_invalid_weight_is_refused(weight) -> None:
    with pytest.raises(UserError, match="must be 0 or more, not"):
        build_detector("faster_rcnn_lite0_augfpn", 3, width=16, consistent_supervision=weight)
