import pytest
import torch
from torch import nn

from drfpn import build_detector
from drfpn.evaluation.flops import model_complexity
from drfpn.utils.errors import UserError
from tests.detectors.scenes import SMALL, scene

CONV = 256 * 256 * 9 + 256


def on_meta(name: str, **options: object) -> nn.Module:
    with torch.device("meta"):
        return build_detector(name, **options)


def trainable(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_sepc_has_the_parameters_that_follow_from_its_release() -> None:
    """RetinaNet with R50 and 80 classes, without its towers: 4 PConv and two layers; with norms; lite; all of it."""
    bare = 37_743_348 - 8 * CONV
    assert trainable(on_meta("retinanet_r50_pconv", towers="shared")) == bare + 8_261_120
    assert trainable(on_meta("retinanet_r50_sepc", neck_options={"deformable": False})) == bare + 8_347_172
    assert trainable(on_meta("retinanet_r50_sepc")) == bare + 8_845_052


def test_four_pyramid_convolutions_and_two_layers_cost_what_the_towers_cost() -> None:
    plain, without_towers = on_meta("retinanet_r50_fpn"), on_meta("retinanet_r50_pconv", towers="shared")
    a, b = (model_complexity(model, 800, 1280).macs for model in (plain, without_towers))
    assert abs(a - b) < 0.001 * a


@pytest.mark.parametrize("name", ["retinanet", "fcos"])
@pytest.mark.parametrize(("neck", "towers"), [("sepc", None), ("fpn", "shared")])
def test_they_train_and_detect_in_both_one_stage_detectors(name, neck, towers) -> None:
    options = {"towers": towers} if towers else {}
    model = build_detector(f"{name}_lite0_{neck}", 3, **SMALL[name], **options, score_thresh=0.0)
    images, targets = scene((70, 90), (120, 50))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for _ in range(2):  # the first step wakes the offsets
        optimizer.zero_grad()
        sum(model.train()(images, targets).values()).backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
    assert all(len(output["boxes"]) for output in model.eval()(images))


def test_other_towers_may_be_given_for_sepc() -> None:
    assert trainable(on_meta("retinanet_r50_sepc", towers="convs")) == 37_743_348 + 7_080_960 + 4 * 512 + 12 * 41_490


def test_unknown_towers_are_answered_with_those_that_there_are() -> None:
    with pytest.raises(UserError) as caught:
        build_detector("fcos_lite0_fpn", 3, width=32, towers="spec")
    assert str(caught.value) == "`towers` must be 'convs', 'shared' or 'sepc', not 'spec'. Did you mean 'sepc'?"
