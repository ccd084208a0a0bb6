"""NAS-FPN: parameters, gates, searched connections, and detectors."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close
from torchvision.models.detection import fasterrcnn_resnet50_fpn
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from drfpn import build_detector, replace_neck
from drfpn.necks import NASFPN
from drfpn.necks.nas_fpn import GATES, NASFPNStage
from drfpn.utils.errors import UsageError
from tests.detectors.scenes import SMALL, loss_history

C = (6, 8, 10)
WIDTH = 8


def test_parameters_are_mmdetections() -> None:
    """29,990,144; a stage has 7 (256 x 256 x 9 + 256 + 512)."""
    with torch.device("meta"):
        seven, six = (NASFPN([512, 1024, 2048], stages=n) for n in (7, 6))
    counts = [sum(p.numel() for p in neck.parameters()) for neck in (seven, six)]
    assert counts[0] == 29_990_144
    assert counts[0] - counts[1] == 7 * (256 * 256 * 9 + 256 + 512)


def test_gates_fuse_two_maps() -> None:
    fine = torch.tensor([[[[0.0, 4]], [[-2, 0]]]])  # averages 2 and -1
    coarse = torch.tensor([[[[1.0, 3]], [[0, -1]]]])  # maxima 3 and 0
    average = torch.tensor([2.0, -1]).sigmoid().view(1, 2, 1, 1)
    maximum = torch.tensor([3.0, 0]).sigmoid().view(1, 2, 1, 1)
    assert_close(GATES["mmdetection"](fine, coarse), fine + average * coarse)
    assert_close(GATES["google"](fine, coarse), coarse + maximum * fine)


@pytest.mark.parametrize("gate", GATES)
def test_a_stage_has_the_searched_connections(gate) -> None:
    """With identities in place of convolutions and levels of constant value."""
    stage = NASFPNStage(1, GATES[gate])
    for name in stage.cells:
        stage.cells[name] = nn.Identity()
    a, b, c, d, e = (torch.tensor(float(value)) for value in (0.1, -0.2, 0.3, 0.4, -0.5))
    levels = [torch.full((1, 1, 16 >> i, 16 >> i), float(value)) for i, value in enumerate((a, b, c, d, e))]

    def gated(coarse: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
        base, other = (fine, coarse) if gate == "mmdetection" else (coarse, fine)
        return base + base.sigmoid() * other

    p4 = gated(d, b) + b
    n3 = p4 + a
    n4 = n3 + p4
    n5 = c + gated(n4, n3)
    n7 = e + gated(n5, p4)
    n6 = gated(n7, n5)
    for m, value in zip(stage(levels), (n3, n4, n5, n6, n7), strict=True):
        assert_close(m, value.expand_as(m))


def test_resizing_at_odd_sizes_is_nearest_and_max_pooling() -> None:
    """Pooling windows start at the top left corner, however the levels were rounded."""
    stage = NASFPNStage(1, GATES["mmdetection"])
    for name in stage.cells:
        stage.cells[name] = nn.Identity()
    levels = [torch.rand(1, 1, side, side) for side in (13, 7, 4, 2, 1)]
    p3, p4, _, p6, _ = levels
    up6 = F.interpolate(p6, size=(7, 7), mode="nearest")
    p4b = p4 + p4.mean().sigmoid() * up6 + p4
    n3 = F.interpolate(p4b, size=(13, 13), mode="nearest") + p3
    padded = F.pad(n3, (0, 1, 0, 1), value=-torch.inf)
    out = stage(levels)
    assert_close(out[0], n3)
    assert_close(out[1], F.max_pool2d(padded, 2) + p4b)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((6, 8), WIDTH), "C3 to C5 or of C2 to C5"),
        ((C, WIDTH, None, {"gate": "gogle"}), "Did you mean 'google'"),
        ((C, WIDTH, None, {"stages": 0}), "at least 1"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message) -> None:
    *positional, options = arguments if isinstance(arguments[-1], dict) else (*arguments, {})
    with pytest.raises(UsageError, match=message):
        NASFPN(*positional, **options)


@pytest.mark.parametrize(("name", "sides"), [("faster_rcnn", [32, 64, 128, 256, 512]), ("retinanet", [32] * 5)])
def test_detectors_give_it_c3_to_c5_and_have_strides_8_to_128(name, sides) -> None:
    model = build_detector(f"{name}_lite0_nas_fpn", 3, **SMALL[name], neck_options={"stages": 1}).eval()
    with torch.no_grad():
        levels = model.backbone(torch.rand(1, 3, 128, 256))
    assert {key: 128 / m.shape[-2] for key, m in levels.items()} == {"1": 8, "2": 16, "3": 32, "p6": 64, "p7": 128}
    generator = getattr(model, "rpn", model).anchor_generator
    if name == "faster_rcnn":
        assert [size for (size,) in generator.sizes] == sides
        assert model.roi_heads.box_roi_pool.featmap_names == ["1", "2", "3"]
        assert model.roi_heads.box_roi_pool.scales == [1 / 8, 1 / 16, 1 / 32]
    else:
        assert [sizes[0] // 2**i for i, sizes in enumerate(generator.sizes)] == sides


def test_in_a_detector_of_torchvision_it_takes_c2_to_c5() -> None:
    model = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, min_size=64, max_size=96).eval()
    replace_neck(model, "nas_fpn", stages=1)
    with torch.no_grad():
        assert list(model.backbone(torch.rand(1, 3, 64, 64))) == ["0", "1", "2", "3", "pool"]
        model([torch.rand(3, 64, 80)])
    assert isinstance(replace_neck(model, "fpn").backbone.fpn.extra_blocks, LastLevelMaxPool)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["faster_rcnn", "retinanet"])
def test_it_overfits_two_images(name) -> None:
    options = {"anchor_scale": 2} if name == "retinanet" else {"anchor_scale": 4}
    options |= {"frozen_stages": -1, "norm_eval": False, "neck_options": {"stages": 1}}
    history = loss_history(build_detector(f"{name}_lite0_nas_fpn", 3, **SMALL[name], **options).train(), steps=8)
    assert min(history) < 0.8 * history[0], history
