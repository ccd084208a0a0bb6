"""What holds for every detector."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from drfpn import build_detector
from drfpn.detectors import DETECTORS
from tests.detectors.scenes import SMALL, all_scores, empty_target, scene

WITH_MASKS = {"mask_rcnn", "cascade_mask_rcnn"}
LOSSES = {
    "faster_rcnn": {"loss_classifier", "loss_box_reg"},
    "mask_rcnn": {"loss_classifier", "loss_box_reg", "loss_mask"},
    "cascade_rcnn": {f"loss_{kind}_{i}" for kind in ("classifier", "box_reg") for i in range(3)},
    "cascade_mask_rcnn": {f"loss_{kind}_{i}" for kind in ("classifier", "box_reg", "mask") for i in range(3)},
    "retinanet": {"classification", "bbox_regression"},
    "fcos": {"classification", "bbox_regression", "bbox_ctrness"},
}
RPN_LOSSES = {"loss_objectness", "loss_rpn_box_reg"}
each = pytest.mark.parametrize("name", DETECTORS)


def build(name: str, neck: str = "drfpn", **options: object) -> nn.Module:
    return build_detector(f"{name}_lite0_{neck}", 3, **SMALL[name] | options)


@each
@pytest.mark.parametrize("neck", ["fpn", "pafpn", "drfpn"])
def test_it_keeps_torchvisions_contract_with_labels_from_one(name, neck) -> None:
    model = build(name, neck, **all_scores(name))
    images, targets = scene((70, 90), (120, 50))
    given = [target["labels"].clone() for target in targets]
    losses = model.train()(images, targets)
    assert set(losses) == LOSSES[name] | (set() if name in ("retinanet", "fcos") else RPN_LOSSES)
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert_close([target["labels"] for target in targets], given)  # the caller's stay as they are
    for image, output in zip(images, model.eval()(images), strict=True):
        assert set(output) == {"boxes", "labels", "scores"} | ({"masks"} if name in WITH_MASKS else set())
        count = len(output["boxes"])
        assert count
        assert set(output["labels"].tolist()) <= {1, 2, 3}
        height, width = image.shape[-2:]
        assert output["boxes"].min() >= 0
        assert output["boxes"][:, [0, 2]].max() <= width
        assert output["boxes"][:, [1, 3]].max() <= height
        assert (output["scores"][:-1] >= output["scores"][1:]).all()
        if name in WITH_MASKS:
            assert output["masks"].shape == (count, 1, height, width)
            assert 0 <= output["masks"].min() <= output["masks"].max() <= 1


@each
def test_a_batch_gives_what_its_images_give_alone(name) -> None:
    """Images of one size, since padding is part of what a batch is."""
    model = build(name, **all_scores(name)).eval()
    images, _ = scene((70, 90), (70, 90))
    for together, image in zip(model(images), images, strict=True):
        (alone,) = model([image])
        assert_close(together["scores"], alone["scores"], rtol=1e-4, atol=1e-5)


@each
def test_bytes_and_floats_give_the_same(name) -> None:
    model = build(name, **all_scores(name)).eval()
    image = torch.randint(0, 256, (3, 70, 90), dtype=torch.uint8)
    assert_close(model([image]), model([image / 255]))


def total(name: str, images: list[torch.Tensor], targets: list[dict[str, torch.Tensor]]) -> float:
    model = build(name).train()
    loss = sum(model(images, targets).values())
    loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    return loss.item()


@each
def test_a_batch_without_any_object_trains(name) -> None:
    images, _ = scene((64, 64), (64, 96))
    assert 0 < total(name, images, [empty_target(64, 64), empty_target(64, 96)]) < float("inf")


@each
def test_an_image_without_objects_beside_a_crowded_one_trains(name) -> None:
    images, targets = scene((64, 64), (64, 96), objects=500)
    assert 0 < total(name, images, [empty_target(64, 64), targets[1]]) < float("inf")


@each
def test_objects_of_one_pixel_train(name) -> None:
    images, targets = scene((96, 96), (64, 96), objects=5)
    for target in targets:
        target["boxes"][:, 2:] = target["boxes"][:, :2] + 1
        target["masks"].zero_()  # too thin to cover the middle of a pixel
    assert 0 < total(name, images, targets) < float("inf")


@each
def test_long_and_narrow_images_and_very_different_sizes_train_and_detect(name) -> None:
    images, targets = scene((33, 1000), (1000, 33), (40, 40), (300, 500))
    assert 0 < total(name, images, targets) < float("inf")
    outputs = build(name, **all_scores(name)).eval()(images)
    for image, output in zip(images, outputs, strict=True):
        assert output["boxes"][:, 2:].amax(0).le(torch.tensor(image.shape[:0:-1])).all()


@each
def test_half_precision_by_autocast_trains_and_keeps_boxes_in_full(name) -> None:
    model = build(name, **all_scores(name))
    images, targets = scene((70, 90), (120, 50))
    with torch.autocast("cpu", torch.bfloat16):
        loss = sum(model.train()(images, targets).values())
        outputs = model.eval()(images)
    loss.backward()
    assert loss.isfinite()
    for output in outputs:
        assert {value.dtype for key, value in output.items() if key != "labels"} == {torch.float32}
        assert output["boxes"].isfinite().all()
