import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

Target = dict[str, Tensor]

SMALL_TWO_STAGE = {"width": 16, "min_size": 96, "max_size": 160}
SMALL_TWO_STAGE |= {"representation_size": 32, "rpn_post_nms_top_n_test": 50}
"""Options that make two-stage detectors fast."""
SMALL = {
    "faster_rcnn": SMALL_TWO_STAGE,
    "mask_rcnn": SMALL_TWO_STAGE,
    "cascade_rcnn": SMALL_TWO_STAGE,
    "cascade_mask_rcnn": SMALL_TWO_STAGE,
    "retinanet": {"width": 32, "min_size": 96, "max_size": 160},
    "fcos": {"width": 64, "min_size": 96, "max_size": 160},
}
"""Options that make each detector fast."""


def all_scores(name: str) -> dict[str, float]:
    """Return the option that sets the score threshold to 0."""
    return {"score_thresh" if name in ("retinanet", "fcos") else "box_score_thresh": 0.0}


def scene(*sizes: tuple[int, int], objects: int = 2) -> tuple[list[Tensor], list[Target]]:
    """Return images of noise with targets of three classes whose masks fill their boxes."""
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, *size, generator=generator) for size in sizes]
    targets = []
    for height, width in sizes:
        corner = torch.rand(objects, 2, generator=generator) * torch.tensor([width / 2, height / 2])
        boxes = torch.cat([corner, corner + torch.tensor([width / 3, height / 3])], dim=1)
        labels = torch.arange(objects) % 3 + 1
        targets.append({"boxes": boxes, "labels": labels, "masks": box_masks(boxes, height, width)})
    return images, targets


def box_masks(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return masks (N, H, W) that fill boxes (N, 4)."""
    y, x = torch.arange(height)[:, None] + 0.5, torch.arange(width) + 0.5
    x1, y1, x2, y2 = boxes[:, :, None, None].unbind(1)
    return ((x > x1) & (x < x2) & (y > y1) & (y < y2)).to(torch.uint8)


def empty_target(height: int, width: int) -> Target:
    """Return the target of an image without objects."""
    return {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.int64),
        "masks": torch.zeros(0, height, width, dtype=torch.uint8),
    }


def trained(model: nn.Module, steps: int = 10) -> nn.Module:
    """Train for a few steps: with random weights many scores are equal, and the order of ties is not defined."""
    loss_history(model.train(), steps)
    return model.eval()


def share_samplers(theirs: nn.Module, ours: nn.Module) -> None:
    """Make torchvision's two-stage detector sample the same anchors and RoIs as ours from the same seed."""
    theirs.transform.torch_choice = lambda sizes: sizes[0]  # ours draws no random number for a single size
    if hasattr(theirs, "rpn"):
        theirs.rpn.fg_bg_sampler = ours.rpn.fg_bg_sampler
        theirs.roi_heads.fg_bg_sampler = ours.roi_heads.fg_bg_sampler


def assert_same_detections(actual: Target, expected: Target, ties: float = 0.02) -> None:
    """Compare detections of an image as sets: boxes within 1e-3 px, scores within 1e-5, masks within 1e-4.

    Of overlapping boxes whose scores differ by rounding, NMS keeps the one that a processor rounds up; and of boxes
    that tie for the last places, one or the other is returned. So a fraction ``ties`` of each side need not be on the
    other, if something is there with the same score that overlaps, or the score is the lowest one.
    """
    near = (actual["scores"][:, None] - expected["scores"]).abs() <= 1e-5
    same = near & (actual["labels"][:, None] == expected["labels"])
    same &= (actual["boxes"][:, None] - expected["boxes"]).abs().amax(-1) <= 1e-3
    tied = near & (box_iou(actual["boxes"], expected["boxes"]) > 0.3)
    for one, other, match, tie in ((actual, expected, same, tied), (expected, actual, same.T, tied.T)):
        single = ~match.any(dim=1)
        assert single.sum() <= ties * len(single), f"{int(single.sum())} of {len(single)} are not on the other side"
        last = one["scores"] <= other["scores"].min() + 1e-5
        assert (tie.any(dim=1) | last)[single].all()
    if "masks" in expected:
        found = same.any(dim=1)
        masks = expected["masks"][same.int().argmax(dim=1)[found]]
        torch.testing.assert_close(actual["masks"][found], masks, rtol=0, atol=1e-4)


def roi_head_inputs(side: int = 128) -> tuple[dict[str, Tensor], Tensor, Tensor, ImageList]:
    """Return inputs of RoI heads: levels, three proposals, a mask that marks the last one as padding, and the batch."""
    features = {str(i): torch.randn(1, 16, side // 4 >> i, side // 4 >> i) for i in range(4)}
    proposals = torch.tensor([[[4.0, 4, 60, 60], [10, 20, 90, 110], [0, 0, 127, 127]]])
    valid = torch.tensor([[True, True, False]])
    return features, proposals, valid, ImageList(torch.zeros(1, 3, side, side), [(side, side)])


def loss_history(model: nn.Module, steps: int = 40) -> list[float]:
    """Train on the same two images and return the loss of each step.

    Gradients are clipped: with random weights an early large step of the focal loss ends on a plateau where all
    predictions are background, with any neck.
    """
    images, targets = scene((96, 128), (128, 96))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    history = []
    for _ in range(steps):
        loss = sum(model(images, targets).values())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        history.append(loss.item())
    return history
