import pytest
import torch
from torch import nn
from torch.export import ExportedProgram
from torch.testing import assert_close
from torchvision.ops import box_iou

from drfpn import build_detector
from drfpn.detectors import DETECTORS
from drfpn.export import EndToEndDetector, export_program
from drfpn.ops import PADDING_SCORE
from tests.detectors.scenes import SMALL, all_scores, trained

SIZES = ((64, 64), (97, 131), (33, 1000), (480, 270))


def assert_exported_equals_eager(model: nn.Module, program: ExportedProgram) -> None:
    """Boxes are equal within 1e-3 px at sizes other than the traced one, up to the order of equal scores."""
    graph, module = program.module(), EndToEndDetector(model)
    for size in SIZES:
        image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
        with torch.no_grad():
            exported, eager = graph(image), module(image)
        valid = eager["scores"] > PADDING_SCORE
        lowest = eager["scores"][valid].min() * 1.001  # of equal scores at the end of the list either may be left out
        compared = eager["scores"] > lowest
        assert compared.any()
        boxes, scores, labels = (eager[key][compared] for key in ("boxes", "scores", "labels"))
        box_difference = (boxes[:, None] - exported["boxes"]).abs().amax(-1)
        same = (box_difference < 1e-3) & ((scores[:, None] - exported["scores"]).abs() < 1e-4)
        same &= labels[:, None] == exported["labels"]
        # RoIs so small that they cover the same pixels have equal scores up to rounding (the graph sums SRB's terms in
        # another order), so either may suppress the other
        near = (scores[:, None] - exported["scores"]).abs() < 1e-4
        tied = near & (box_iou(boxes, exported["boxes"]) > 0.5)
        matched = same.any(dim=1) | tied.any(dim=1)
        assert matched.all(), f"{int((~matched).sum())} of {len(matched)} are missing at {size}"
        assert same.any(dim=1).float().mean() > 0.95
        if "masks" in eager:
            matched = same.any(dim=1)
            masks = exported["masks"][same.int().argmax(dim=1)[matched]]
            assert_close(masks, eager["masks"][compared][matched], rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", DETECTORS)
def test_an_exported_detector_predicts_the_same_at_any_size(name, traced) -> None:
    model, program, _ = traced(name)
    assert_exported_equals_eager(model, program)


@pytest.mark.slow
@pytest.mark.parametrize("body", ["convnext_tiny", "regnety_004"])
def test_other_families_of_backbones_export(body) -> None:
    name = "faster_rcnn"
    model = build_detector(f"{name}_{body}_drfpn", 3, **SMALL[name] | all_scores(name))
    assert_exported_equals_eager(trained(model, steps=25), export_program(model))
