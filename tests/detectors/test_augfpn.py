import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torchvision.ops import roi_align

from drfpn import build_detector
from drfpn.detectors.augfpn import ConsistentSupervision, SoftRoIPool
from drfpn.detectors.losses import roi_losses, smooth_l1
from drfpn.detectors.roi_heads import RoIPool
from drfpn.evaluation.flops import count
from drfpn.utils.errors import UserError
from tests.detectors.scenes import SMALL, scene

STRIDES = (4, 8, 16, 32)
BOXES = [torch.tensor([[4.0, 4, 60, 60], [10, 20, 90, 110]]), torch.tensor([[0.0, 0, 127, 127]])]
PARTS_OFF = {"region_pool": "level", "consistent_supervision": 0}


def levels(prefix: str = "") -> dict[str, torch.Tensor]:
    return {f"{prefix}{i}": torch.randn(2, 6, 32 >> i, 32 >> i) for i in range(4)}


def crops(features: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    return [roi_align(m, BOXES, 7, 1 / s, 2) for m, s in zip(features.values(), STRIDES, strict=True)]


def on_meta(name: str, **options: object) -> nn.Module:
    with torch.device("meta"):
        return build_detector(name, **options)


def trainable(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_the_whole_method_has_the_parameters_of_its_parts() -> None:
    pyramid = 41_527_712 + 1_777_411
    assert trainable(on_meta("faster_rcnn_r50_augfpn", **PARTS_OFF)) == pyramid
    assert trainable(on_meta("faster_rcnn_r50_augfpn", consistent_supervision=0)) == pyramid + 271_620
    assert trainable(on_meta("faster_rcnn_r50_augfpn")) == pyramid + 271_620 + 14_306_705
    assert trainable(on_meta("cascade_rcnn_r50_augfpn")) == 69_169_422 + 1_777_411


def test_what_chooses_between_the_levels_is_counted() -> None:
    soft, hard = (count(on_meta("faster_rcnn_r50_augfpn", region_pool=pool)).macs for pool in ("soft", "level"))
    assert soft - hard == 1000 * 49 * (1024 * 256 + 256 * 4 * 9)


def test_a_region_is_the_sum_of_what_all_levels_show_by_weights() -> None:
    features, pool = levels(), SoftRoIPool(STRIDES, 7, 6)
    shown = crops(features)
    weights = pool.select(torch.cat(shown, dim=1)).sigmoid()
    expected = sum(weights[:, i : i + 1] * crop for i, crop in enumerate(shown))
    assert_close(pool(features, BOXES, [(128, 128)] * 2), expected)


def test_soft_pooling_of_no_region_is_empty_and_of_no_number_reads_no_foreign_memory() -> None:
    features, pool = levels(), SoftRoIPool(STRIDES, 7, 6)
    assert pool(features, [torch.zeros(0, 4)] * 2, [(128, 128)] * 2).shape == (0, 6, 7, 7)
    broken = [torch.full((1, 4), torch.nan), BOXES[1]]
    assert_close(pool(features, broken, [(128, 128)] * 2)[1:], pool(features, BOXES, [(128, 128)] * 2)[2:])


def test_consistent_supervision_is_the_loss_of_the_second_stage_on_every_lateral() -> None:
    class Predictor(nn.Module):
        def forward(self, x):
            return x[:, :4], x[:, 4:20]

    head = nn.Sequential(nn.Flatten(), nn.Linear(6 * 49, 20))
    auxiliary = ConsistentSupervision(RoIPool(STRIDES, 7), head, Predictor(), 0.25)
    features = levels("lateral_")
    labels, wanted = [torch.tensor([0, 3]), torch.tensor([1])], [torch.randn(2, 4), torch.randn(1, 4)]
    losses = auxiliary(features, BOXES, labels, wanted, smooth_l1)
    everywhere = head(torch.cat(crops(features)))  # the mean over four laterals, as one batch
    expected = roi_losses(everywhere[:, :4], everywhere[:, 4:], labels * 4, wanted * 4, smooth_l1)
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


def test_detecting_does_not_depend_on_the_auxiliary_head() -> None:
    model = build_detector("faster_rcnn_lite0_augfpn", 3, **SMALL["faster_rcnn"], box_score_thresh=0.0).eval()
    images, _ = scene((70, 90))
    before = model(images)
    for p in model.roi_heads.auxiliary.parameters():
        nn.init.constant_(p, torch.nan)
    assert_close(model(images), before)


def test_each_part_can_be_left_out() -> None:
    images, targets = scene((70, 90))
    model = build_detector("faster_rcnn_lite0_augfpn", 3, **SMALL["faster_rcnn"], **PARTS_OFF).train()
    assert type(model.roi_heads.box_roi_pool) is RoIPool
    assert not any("laterals" in key for key in model(images, targets))


def test_masks_are_pooled_as_boxes_are_with_weights_of_their_own() -> None:
    heads = build_detector("mask_rcnn_lite0_augfpn", 3, **SMALL["mask_rcnn"]).roi_heads
    assert isinstance(heads.mask_roi_pool, SoftRoIPool)
    assert heads.mask_roi_pool.output_size == (14, 14)
    assert heads.mask_roi_pool.select is not heads.box_roi_pool.select


def test_each_stage_of_a_cascade_may_choose_softly() -> None:
    model = build_detector("cascade_rcnn_lite0_fpn", 3, **SMALL["cascade_rcnn"], region_pool="soft")
    assert len({stage.box_roi_pool.select[0].weight for stage in model.roi_heads.stages}) == 3


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("faster_rcnn_lite0_fpn", "needs the laterals of the pyramid 'augfpn', not of FPN."),
        ("cascade_rcnn_lite0_augfpn", "is not an option of Cascade R-CNN"),
    ],
)
def test_consistent_supervision_where_there_is_nothing_to_supervise_is_refused(name, said) -> None:
    with pytest.raises(UserError) as caught:
        build_detector(name, 3, width=16, consistent_supervision=0.25)
    assert said in str(caught.value)


@pytest.mark.parametrize("weight", [-1, "yes"])
def test_a_weight_below_zero_or_none_at_all_is_refused(weight) -> None:
    with pytest.raises(UserError, match="must be 0 or more, not"):
        build_detector("faster_rcnn_lite0_augfpn", 3, width=16, consistent_supervision=weight)
