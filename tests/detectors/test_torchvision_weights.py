"""torchvision's own detectors, with all their parameters drawn at random, are the oracle."""

import hashlib
import logging
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torchvision.models import detection

from drfpn import build_detector
from drfpn.data import open_dataset
from drfpn.detectors.published_weights import COCO, PUBLISHED
from drfpn.utils.errors import UserError
from tests.detectors.scenes import assert_same_detections, scene, share_samplers

THEIRS = {
    "faster_rcnn": detection.fasterrcnn_resnet50_fpn,
    "mask_rcnn": detection.maskrcnn_resnet50_fpn,
    "retinanet": detection.retinanet_resnet50_fpn,
    "fcos": detection.fcos_resnet50_fpn,
}
BOTH = {"min_size": 128, "max_size": 192}
"""Options of ours and of theirs, so that it does not take long."""
BOTH |= {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
TWO_STAGE = {"rpn_post_nms_top_n_test": 100, "box_batch_size_per_image": 64}
TWO_STAGE |= {"box_score_thresh": 0.02, "box_detections_per_img": 150}  # several classes, where all score little
AS_THEIRS = {
    "retinanet": {"detections_per_img": 300},
    "fcos": {"giou": True, "center_sampling_radius": 1.5, "score_thresh": 0.2, "nms_thresh": 0.6},
}
"""What differs by design (docs/design.md)."""
CLASS_LAYERS = ("cls_score", "classification_head.cls_logits", "mask_fcn_logits")
pytestmark = pytest.mark.slow
each = pytest.mark.parametrize("name", THEIRS)


def options(name: str) -> dict[str, Any]:
    return BOTH | (TWO_STAGE if "rcnn" in name else {})


@cache
def theirs_at_random(name: str, num_classes: int = 91) -> nn.Module:
    """Build torchvision's detector with random parameters and statistics; ids that COCO does not use score nothing."""
    torch.manual_seed(1)
    model = THEIRS[name](weights=None, weights_backbone=None, num_classes=num_classes, **options(name))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.3, 0.7)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            for tensor in (module.bias, module.running_mean):
                nn.init.normal_(tensor, std=0.1)
        elif isinstance(module, nn.Conv2d | nn.Linear | nn.ConvTranspose2d) and module.bias is not None:
            nn.init.kaiming_normal_(module.weight)
            nn.init.normal_(module.bias, std=0.1)
    for layer, module in model.named_modules():
        if layer.endswith(("bbox_pred", "bbox_reg")):  # deltas of a few tenths
            module.weight.data.mul_(0.1)
        if layer.endswith(CLASS_LAYERS) and num_classes == 91:
            unused = torch.tensor([label not in COCO for label in range(91)])
            if layer.endswith("cls_score"):
                unused[0] = False
            module.weight.data.unflatten(0, (-1, 91))[:, unused] = 0
            module.bias.data.unflatten(0, (-1, 91))[:, unused] = -1e4
    return model.eval()


def saved(model: nn.Module, folder: Path) -> Path:
    torch.save(model.state_dict(), folder / "theirs.pth")
    return folder / "theirs.pth"


def in_training(model: nn.Module) -> nn.Module:
    """Set training mode with BatchNorm's statistics kept, as ours keep them."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return model


def with_masks(targets: list[dict[str, Tensor]], images: list[Tensor]) -> list[dict[str, Tensor]]:
    """Add masks: the upper half of each box."""
    for target, image in zip(targets, images, strict=True):
        target["masks"] = torch.zeros(len(target["boxes"]), *image.shape[1:], dtype=torch.uint8)
        for mask, (x1, y1, x2, y2) in zip(target["masks"], target["boxes"].int().tolist(), strict=True):
            mask[y1 : (y1 + y2) // 2, x1:x2] = 1
    return targets


@each
def test_losses_and_detections_equal_torchvisions(name, tmp_path) -> None:
    theirs = theirs_at_random(name)
    file = saved(theirs, tmp_path)
    ours = build_detector(f"{name}_r50_fpn", 90, weights=file, **options(name) | AS_THEIRS.get(name, {})).eval()
    images, targets = scene((128, 160), (150, 128), objects=3)
    targets = with_masks(targets, images)
    for target in targets:
        target["labels"] = torch.tensor([1, 12, 80])
    assert_equal(ours, theirs, torch.arange(91), images, targets)


@each
def test_losses_and_detections_of_cocos_80_classes_equal_torchvisions_on_real_images(name, assets, tmp_path) -> None:
    theirs = theirs_at_random(name)
    file = saved(theirs, tmp_path)
    ours = build_detector(f"{name}_r50_fpn", weights=file, **options(name) | AS_THEIRS.get(name, {})).eval()
    data = open_dataset(str(assets / "coco"), "val", masks=True)
    assert data.category_ids == tuple(COCO)
    samples = [sample for sample in map(data.__getitem__, range(len(data))) if len(sample[1]["boxes"])]
    assert len(samples) == 3
    images = [image / 255 for image, _ in samples]
    keys = ("boxes", "labels", "masks")
    targets = [{key: target[key] for key in keys} for _, target in samples]
    assert_equal(ours, theirs, torch.tensor([0, *COCO]), images, targets)


def assert_equal(
    ours: nn.Module, theirs: nn.Module, label: Tensor, images: list[Tensor], targets: list[dict[str, Tensor]]
) -> None:
    """Compare detections and losses; ``label`` says how theirs calls each label of ours."""
    share_samplers(theirs, ours)
    with torch.no_grad():
        actual, expected = ours(images), theirs(images)
    for a, b in zip(actual, expected, strict=True):
        assert len(b["boxes"]) > 5
        assert len(b["labels"].unique()) > 2
        assert_same_detections(a | {"labels": label[a["labels"]]}, b)

    torch.manual_seed(2)
    losses = ours.train()(images, targets)
    torch.manual_seed(2)
    expected = in_training(theirs)(images, [t | {"labels": label[t["labels"]]} for t in targets])
    theirs.eval()
    assert_close(losses, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("as_file", [False, True])
def test_published_weights_are_used_with_torchvisions_eps(as_file, tmp_path, monkeypatch) -> None:
    """Fetched or in a file of any name, they run with eps = 0, which counts where variances are small."""
    theirs = THEIRS["retinanet"](weights=None, weights_backbone=None, num_classes=91, **BOTH)
    theirs.load_state_dict(theirs_at_random("retinanet").state_dict())
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var[::8] = 1e-6
            module.weight.data[::8] *= 1e-3
    file = saved(theirs, tmp_path)
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.0
    if as_file:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        value = PUBLISHED["retinanet"].weights.value
        monkeypatch.setattr(value, "url", f"https://example.org/coco-{digest[:8]}.pth")
    else:
        monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda url, **_: torch.load(file))
    ours = build_detector("retinanet_r50_fpn", 90, weights=file if as_file else "torchvision", **BOTH).eval()
    image = torch.rand(1, 3, 128, 160)
    with torch.no_grad():
        for a, b in zip(ours.backbone(image).values(), theirs.eval().backbone(image).values(), strict=True):
            assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_former_names_are_known(tmp_path) -> None:
    for name, old in (
        ("faster_rcnn", {r"(inner|layer)_blocks\.(\d)\.0\.": r"\1_blocks.\2.", r"head\.conv\.0\.0\.": "head.conv."}),
        (
            "retinanet",
            {r"(inner|layer)_blocks\.(\d)\.0\.": r"\1_blocks.\2."}
            | {rf"head\.conv\.{i}\.0\.": f"head.conv.{2 * i}." for i in range(4)},
        ),
    ):
        state = theirs_at_random(name).state_dict()
        named: dict[str, Tensor] = {}
        for key, value in state.items():
            for pattern, replacement in old.items():
                if re.search(pattern, key):
                    key = re.sub(pattern, replacement, key)
                    break
            named[key] = value
        assert named.keys() != state.keys()
        torch.save(named, tmp_path / "old.pth")
        old_names = build_detector(f"{name}_r50_fpn", 90, weights=tmp_path / "old.pth")
        new_names = build_detector(f"{name}_r50_fpn", 90, weights=saved(theirs_at_random(name), tmp_path))
        assert_close(dict(old_names.state_dict()), dict(new_names.state_dict()), rtol=0, atol=0)


def test_drfpn_takes_what_it_shares_with_fpn(tmp_path, caplog) -> None:
    caplog.set_level(logging.INFO, "drfpn")
    theirs = theirs_at_random("faster_rcnn")
    model = build_detector("faster_rcnn_r50_drfpn", 80, weights=saved(theirs, tmp_path))
    fpn, neck = theirs.backbone.fpn, model.backbone.neck
    for own, block in zip([*neck.lateral, *neck.smooth], [*fpn.inner_blocks[:-1], *fpn.layer_blocks], strict=True):
        assert_close(own.weight, block[0].weight, rtol=0, atol=0)
    assert not neck.top_down.steps[0].offset.weight.any()  # as initialized
    table = caplog.text
    assert re.search(r"neck +14 +\d+  2 tensors of FPN do not exist in DRFPN", table)
    assert re.search(r"class logits +2 +0  80 of 90 ids", table)


def test_augfpn_takes_all_of_fpn_and_begins_its_own_parts_anew(tmp_path, caplog) -> None:
    caplog.set_level(logging.INFO, "drfpn")
    model = build_detector("faster_rcnn_r50_augfpn", 80, weights=saved(theirs_at_random("faster_rcnn"), tmp_path))
    table = caplog.text
    assert re.search(r"neck +16 +\d+\n", table)
    assert re.search(r"RoI pools +0 +4\n", table)
    assert re.search(r"auxiliary head +0 +8\n", table)
    assert model.roi_heads.box_roi_pool.select[0].weight.any()


def test_a_checkpoint_of_ones_own_classes_is_taken_whole_or_without_them(tmp_path, caplog) -> None:
    caplog.set_level(logging.INFO, "drfpn")
    theirs = theirs_at_random("fcos", num_classes=4)
    file = saved(theirs, tmp_path)
    logits = theirs.head.classification_head.cls_logits
    same = build_detector("fcos_r50_fpn", 3, weights=file).head.classification_head
    assert_close(same.cls_logits.weight, logits.weight[1:], rtol=0, atol=0)
    assert " all 3" in caplog.text
    torch.manual_seed(0)
    initial = build_detector("fcos_r50_fpn", 2).head.classification_head
    torch.manual_seed(0)
    other = build_detector("fcos_r50_fpn", 2, weights=file).head.classification_head
    assert_close(other.cls_logits.weight, initial.cls_logits.weight, rtol=0, atol=0)
    assert_close(other.conv[0].weight, theirs.head.classification_head.conv[0].weight, rtol=0, atol=0)
    assert re.search(r"class logits +0 +2  3 classes in the checkpoint, 2 here", caplog.text)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"rpn.head.cls_logits.bias": None}, {}, "lack 'rpn.head.cls_logits.bias', which this 'faster_rcnn' needs"),
        ({"a.b": torch.zeros(1)}, {}, "hold 'a.b', which this 'faster_rcnn' does not have"),
        ({}, {"width": 64}, "do not fit this 'faster_rcnn': "),
        ({}, {"representation_size": 256}, "do not fit this 'faster_rcnn': "),
    ],
    ids=["missing", "unknown", "width", "representation size"],
)
def test_weights_that_do_not_fit_are_named(change, options, message, tmp_path) -> None:
    state = theirs_at_random("faster_rcnn").state_dict() | change
    torch.save({name: value for name, value in state.items() if value is not None}, tmp_path / "theirs.pth")
    with pytest.raises(UserError) as caught:
        build_detector("faster_rcnn_r50_fpn", 80, weights=tmp_path / "theirs.pth", **options)
    assert message in str(caught.value)
