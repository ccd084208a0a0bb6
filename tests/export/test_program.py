import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torchvision.ops import box_iou

from drfpn import build_detector
from drfpn.detectors import DETECTORS
from drfpn.export import WholeDetector, export_program
from drfpn.ops import PADDING_SCORE
from tests.detectors.scenes import SMALL, all_scores, trained

SIZES = ((64, 64), (97, 131), (33, 1000), (480, 270))


def assert_exported_equals_eager(model: nn.Module) -> None:
    """Boxes within 1e-3 px at sizes other than the traced one; equally likely ones may come in another order."""
    graph, whole = export_program(model).module(), WholeDetector(model)
    for size in SIZES:
        image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
        with torch.no_grad():
            exported, eager = graph(image), whole(image)
        real = eager["scores"] > PADDING_SCORE
        least = eager["scores"][real].min() * 1.001  # at the end of the list which of two equals is in is chance
        sure = eager["scores"] > least
        assert sure.any()
        boxes, scores, labels = (eager[key][sure] for key in ("boxes", "scores", "labels"))
        apart = (boxes[:, None] - exported["boxes"]).abs().amax(-1)
        same = (apart < 1e-3) & ((scores[:, None] - exported["scores"]).abs() < 1e-4)
        same &= labels[:, None] == exported["labels"]
        # regions so small that they see the same pixels score the same but for rounding, as the graph sums SRB's terms
        # in another order: which of them suppresses the other is chance
        near = (scores[:, None] - exported["scores"]).abs() < 1e-4
        tied = near & (box_iou(boxes, exported["boxes"]) > 0.5)
        found = same.any(dim=1) | tied.any(dim=1)
        assert found.all(), f"{int((~found).sum())} of {len(found)} are not there at {size}"
        assert same.any(dim=1).float().mean() > 0.95
        if "masks" in eager:
            there = same.any(dim=1)
            masks = exported["masks"][same.int().argmax(dim=1)[there]]
            assert_close(masks, eager["masks"][sure][there], rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", DETECTORS)
def test_an_exported_detector_finds_the_same_at_any_size(name) -> None:
    model = build_detector(f"{name}_lite0_drfpn", 3, **SMALL[name] | all_scores(name))
    assert_exported_equals_eager(trained(model, steps=25))


@pytest.mark.slow
@pytest.mark.parametrize("body", ["convnext_tiny", "regnety_004"])
def test_other_families_of_backbones_export(body) -> None:
    name = "faster_rcnn"
    model = build_detector(f"{name}_{body}_drfpn", 3, **SMALL[name] | all_scores(name))
    assert_exported_equals_eager(trained(model, steps=25))
