import math

import pytest
import torch
from torch.testing import assert_close
from torchvision.models import detection
from torchvision.ops import box_iou

from drfpn import build_detector
from drfpn.detectors.fcos import FCOSHeadWithIoULoss, centerness, iou_loss
from tests.detectors.scenes import loss_history, scene, trained

SMALL = {"width": 32, "min_size": 96, "max_size": 160}
each = pytest.mark.parametrize("name", ["retinanet", "fcos"])


@pytest.mark.slow
@pytest.mark.slow
@each
def test_label_k_is_torchvisions_label_k_minus_one(name) -> None:
    """The same weights in torchvision's own class, told labels from 0, give the same losses and boxes."""
    torch.manual_seed(0)
    options = {"giou": True, "center_sampling_radius": 1.5} if name == "fcos" else {}
    ours = build_detector(f"{name}_lite0_fpn", 3, **SMALL, score_thresh=0.0, **options)
    make = {"retinanet": detection.RetinaNet, "fcos": detection.FCOS}[name]
    theirs = make(
        ours.backbone,
        3,
        anchor_generator=ours.anchor_generator,
        score_thresh=0.0,
        nms_thresh=0.5,
        detections_per_img=100,
        min_size=96,
        max_size=160,
        image_mean=ours.transform.image_mean,
        image_std=ours.transform.image_std,
    )
    theirs.head.load_state_dict(trained(ours).head.state_dict())
    images, targets = scene((70, 90), (120, 50))
    from_zero = [target | {"labels": target["labels"] - 1} for target in targets]
    assert_close(ours.train()(images, targets), theirs.train()(images, from_zero))
    for a, b in zip(ours.eval()(images), theirs.eval()(images), strict=True):
        assert_close(a["boxes"], b["boxes"])
        assert_close(a["labels"], b["labels"] + 1)


def test_centreness_is_one_in_the_middle_and_zero_on_the_border() -> None:
    point = torch.tensor([[5.0, 10], [0, 10], [2.5, 10], [2.5, 5]])
    boxes = torch.tensor([[0.0, 0, 10, 20]]).expand(4, 4)
    anchors = torch.cat([point - 4, point + 4], dim=1)
    assert_close(centerness(anchors, boxes), torch.tensor([1, 0, (1 / 3) ** 0.5, 1 / 3]))


def test_boxes_of_points_near_the_middle_count_more() -> None:
    """Two points of one object, one in the middle and one a quarter from its border: 1 and sqrt(1 / 3)."""
    head = FCOSHeadWithIoULoss(32, 1, 1)
    anchors = torch.tensor([[1.0, 1, 9, 9], [-1.5, 1, 6.5, 9]])
    outputs = {
        "cls_logits": torch.zeros(1, 2, 1),
        "bbox_regression": torch.rand(1, 2, 4),
        "bbox_ctrness": torch.zeros(1, 2, 1),
    }
    target = {"boxes": torch.tensor([[0.0, 0, 10, 10]]), "labels": torch.tensor([0])}
    loss = head.compute_loss([target], outputs, [anchors], [torch.tensor([0, 0])])["bbox_regression"]
    each_point = iou_loss(head.box_coder.decode(outputs["bbox_regression"][0], anchors), target["boxes"].expand(2, 4))
    weight = torch.tensor([1, (1 / 3) ** 0.5])
    assert_close(loss, (each_point * weight).sum() / weight.sum())


def test_iou_loss_is_minus_log_iou() -> None:
    a = torch.tensor([[0.0, 0, 4, 4], [1, 1, 3, 5], [0, 0, 2, 2]])
    b = torch.tensor([[0.0, 0, 4, 4], [1, 2, 4, 5], [5, 5, 6, 6]])
    expected = -box_iou(a, b).diagonal()[:2].log()
    assert_close(iou_loss(a, b)[:2], expected)
    assert_close(iou_loss(a, b)[2], torch.tensor(-math.log(1e-6)))  # apart: large, but finite


@pytest.mark.slow
@each
def test_it_learns_two_images_by_heart(name) -> None:
    torch.manual_seed(0)
    options = {"anchor_scale": 2} if name == "retinanet" else {}
    model = build_detector(f"{name}_lite0_drfpn", 3, frozen_stages=-1, norm_eval=False, **SMALL, **options).train()
    history = loss_history(model)
    assert sum(history[-5:]) < 0.5 * sum(history[:5]), history
