from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from drfpn import build_detector
from drfpn.data import Annotations, ShapesDataset
from drfpn.evaluation.anchor_recall import best_possible_recall

SIZES = [(97, 201), (240, 320), (500, 331), (33, 700)]


def scene(per_image: int = 40, seed: int = 0) -> Annotations:
    """Return boxes of all sizes and shapes, some at the border, in images of odd sizes."""
    rng = np.random.default_rng(seed)
    images = np.repeat(np.arange(len(SIZES)), per_image)
    limits = np.array(SIZES)[images][:, ::-1]
    sides = np.minimum(np.exp(rng.uniform(np.log(1), np.log(400), (len(images), 2))), limits)
    boxes = np.concatenate([rng.uniform(0, limits - sides), sides], axis=1)
    return Annotations(
        root=Path(),
        source=Path(),
        classes=("cat",),
        category_ids=np.array([1]),
        image_ids=np.arange(len(SIZES)),
        file_names=np.array([f"{i}.jpg" for i in range(len(SIZES))]),
        sizes=np.array(SIZES),
        starts=np.arange(len(SIZES) + 1) * per_image,
        boxes=boxes,
        labels=np.ones(len(images), dtype=np.int64),
        areas=boxes[:, 2:].prod(axis=1),
        crowd=rng.random(len(images)) < 0.1,
        annotation_ids=np.arange(1, len(images) + 1),
    )


def detector(name: str, **options: Any) -> Any:
    return build_detector(name, 1, width=32, min_size=160, max_size=256, **options).eval()


def every_anchor(model: Any, objects: Annotations, image: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Return the anchors of each level and the boxes, as the detector itself makes them of a picture."""
    of = (objects.image_indices() == image) & ~objects.crowd
    xywh = torch.from_numpy(objects.boxes[of]).float()
    target = {"boxes": torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], dim=1)}
    with torch.no_grad():
        pictures, targets = model.transform([torch.zeros(3, *objects.sizes[image].tolist())], [target])
        levels = list(model.backbone(pictures.tensors).values())
    generator = model.rpn.anchor_generator if hasattr(model, "rpn") else model.anchor_generator
    anchors = generator(ImageList(pictures.tensors, pictures.image_sizes), levels)[0]
    per_cell = generator.num_anchors_per_location()
    counts = [level.shape[-2] * level.shape[-1] * k for level, k in zip(levels, per_cell, strict=True)]
    return list(anchors.split(counts)), targets[0]["boxes"]


@pytest.mark.parametrize("name", ["faster_rcnn_lite0_fpn", "retinanet_lite0_fpn", "cascade_rcnn_r18_fpn"])
def test_best_anchors_are_those_of_comparing_all(name: str) -> None:
    model, objects = detector(name, anchor_scale=3), scene()
    best = []
    for image in range(len(SIZES)):
        anchors, boxes = every_anchor(model, objects, image)
        best.append(box_iou(torch.cat(anchors), boxes).amax(dim=0))
    expected = torch.cat(best)
    result = best_possible_recall(model, objects)
    assert result.by == "anchors"
    assert result.threshold == (0.5 if name.startswith("retinanet") else 0.7)
    assert result.objects == len(expected)
    assert result.below == int((expected < result.threshold).sum()) > 0
    assert result.recall["all"] == pytest.approx(float((expected >= 0.5).float().mean()), abs=1e-6)
    assert result.missed == int((expected < 0.5).sum())
    assert 0 < result.recall["small"] < 1
    worst = float(expected.min())
    assert f"IoU {worst:.2f} at best" in result.examples[0]


@pytest.mark.parametrize("options", [{}, {"centre_sampling": 1.5}])
def test_points_are_those_that_fcos_itself_would_take(options: dict[str, Any]) -> None:
    model, objects = detector("fcos_lite0_fpn", **options), scene()
    taken = 0
    for image in range(len(SIZES)):
        levels, boxes = every_anchor(model, objects, image)
        for box in boxes:  # one at a time, so that none takes the points of another
            matched = matches(model, levels, box[None])
            taken += bool((matched >= 0).any())
    result = best_possible_recall(model, objects)
    assert result.by == "points"
    assert result.below == result.missed == result.objects - taken > 0
    assert result.recall["all"] == pytest.approx(taken / result.objects)
    assert "has no point" in result.examples[0]


def matches(model: Any, levels: list[torch.Tensor], boxes: torch.Tensor) -> torch.Tensor:
    """Return what torchvision's loss matches each point with; its head is replaced to look at that."""
    seen: list[torch.Tensor] = []
    head, model.head = model.head, Spy(seen)
    try:
        model.compute_loss([{"boxes": boxes}], {}, [torch.cat(levels)], [len(level) for level in levels])
    finally:
        model.head = head
    return seen[0]


class Spy(torch.nn.Module):
    def __init__(self, seen: list[torch.Tensor]) -> None:
        super().__init__()
        self.seen = seen

    def compute_loss(self, targets: Any, outputs: Any, anchors: Any, matched: list[torch.Tensor]) -> None:
        self.seen += matched


def test_shapes_can_be_seen_and_no_objects_are_no_failure() -> None:
    model = detector("faster_rcnn_lite0_fpn", anchor_scale=4)
    assert best_possible_recall(model, ShapesDataset("val", 20).to_annotations()).recall["all"] > 0.5
    nothing = scene(0)
    result = best_possible_recall(model, nothing)
    assert (result.objects, result.below, result.recall["all"]) == (0, 0, None)


def test_objects_in_images_of_unknown_size_do_not_count() -> None:
    model, objects = detector("faster_rcnn_lite0_fpn"), scene()
    unknown = replace(objects, sizes=objects.sizes * (np.arange(len(SIZES)) > 0)[:, None])
    expected = int(((objects.image_indices() > 0) & ~objects.crowd).sum())
    assert best_possible_recall(model, unknown).objects == expected
