"""ResNets with LIP: pooling, position, parameters and multiply-adds."""

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from drfpn import build_detector
from drfpn.backbones import TimmBackbone
from drfpn.backbones.lip import LIP_BACKBONES, LIPBottleneck, SimplifiedLIP, convert_to_lip, lip2d
from drfpn.utils.errors import UserError
from tests.detectors.scenes import SMALL, loss_history


def average(x: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)


@pytest.mark.parametrize(
    ("name", "params", "gmacs"), [("lip_resnet50", 23_864_232, 5.33), ("lip_resnet101", 42_856_360, 9.06)]
)
def test_parameters_and_multiply_adds_are_the_authors(name, params, gmacs) -> None:
    """With the classifier, at 224 x 224; the authors also count norms and pooling, about 1 %."""
    with torch.device("meta"):
        model = timm.create_model(LIP_BACKBONES[name]).eval()
        convert_to_lip(model)
        with FlopCounterMode(display=False) as counter:
            model(torch.empty(1, 3, 224, 224))
    assert sum(p.numel() for p in model.parameters()) == params
    assert counter.get_total_flops() / 2e9 == pytest.approx(gmacs, rel=0.01)


def test_there_are_seven_poolings_and_no_strided_convolution_but_the_stems() -> None:
    with torch.device("meta"):
        body = TimmBackbone("lip_r50").body
    assert isinstance(body.maxpool, SimplifiedLIP)
    assert [name for name, m in body.named_modules() if isinstance(m, LIPBottleneck)] == [
        "layer2.0",
        "layer3.0",
        "layer4.0",
    ]
    assert [name for name, m in body.named_modules() if isinstance(m, nn.Conv2d) and m.stride != (1, 1)] == ["conv1"]


@pytest.mark.parametrize("size", [(8, 12), (7, 9), (1, 5)])
def test_equal_logits_are_average_pooling_without_the_border(size) -> None:
    x = torch.randn(2, 3, *size)
    assert_close(lip2d(x, torch.full_like(x, 6)), average(x))
    assert_close(lip2d(x, torch.zeros_like(x)), average(x))


def test_lip_starts_as_average_pooling() -> None:
    x = torch.randn(2, 64, 9, 12)
    assert_close(SimplifiedLIP(64)(x), average(x))
    block = LIPBottleneck(timm.create_model("resnet50").layer2[0]).eval()
    x = torch.randn(1, 256, 10, 7)
    y = block.act2(block.bn2(block.conv2(average(F.relu(block.bn1(block.conv1(x)))))))
    assert_close(block(x), F.relu(block.bn3(block.conv3(y)) + block.downsample(average(x))))


def test_each_window_is_averaged_with_its_weights() -> None:
    x, logits = torch.randn(1, 2, 6, 6, dtype=torch.float64), 12 * torch.rand(1, 2, 6, 6, dtype=torch.float64)
    corner = logits[0, 1, 1:4, 3:6].exp()  # the window of output (1, 2)
    expected = (x[0, 1, 1:4, 3:6] * corner).sum() / corner.sum()
    assert_close(lip2d(x, logits)[0, 1, 1, 2], expected, rtol=1e-6, atol=1e-6)
    edge = logits[0, 0, :2, :2].exp()  # that of output (0, 0), most of which is the border
    assert_close(lip2d(x, logits)[0, 0, 0, 0], (x[0, 0, :2, :2] * edge).sum() / edge.sum(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_does_not_overflow_or_underflow(dtype) -> None:
    x = torch.randn(1, 2, 8, 8, dtype=dtype)
    logits = torch.zeros(1, 2, 8, 8, dtype=dtype)
    logits[..., 4:] = 12  # e^12 is 162,755
    out = lip2d(x, logits)
    assert out.dtype == dtype
    assert_close(out.float(), lip2d(x.float(), logits.float()), rtol=1e-2, atol=1e-2)
    assert_close(out[..., :2].float(), average(x.float())[..., :2], rtol=1e-2, atol=1e-2)


def test_autocast_runs_forward_and_backward_and_all_parameters_get_a_gradient() -> None:
    backbone = TimmBackbone("lip_r50", frozen_stages=-1, norm_eval=False).train()
    for name, parameter in backbone.named_parameters():
        if "bn3.weight" in name or ("logits" in name and parameter.ndim == 4):
            nn.init.normal_(parameter, 0.5, 0.1)  # initially zero, which stops the gradient of earlier layers
    with torch.autocast("cpu", torch.bfloat16):
        maps = backbone(torch.rand(2, 3, 75, 97))
        loss = sum(m.float().square().mean() for m in maps.values())
    loss.backward()
    assert loss.isfinite()
    assert [tuple(m.shape[1:]) for m in maps.values()] == [
        (256, 19, 25),
        (512, 10, 13),
        (1024, 5, 7),
        (2048, 3, 4),
    ]
    without = [name for name, p in backbone.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


@pytest.mark.parametrize(
    ("stages", "frozen"),
    [(-1, set()), (0, {"conv1", "bn1", "maxpool"}), (1, {"conv1", "bn1", "maxpool", "layer1"})],
)
def test_the_lip_of_the_stem_is_frozen_with_the_stem(stages, frozen) -> None:
    with torch.device("meta"):
        body = TimmBackbone("lip_r50", frozen_stages=stages).body
    assert {name.split(".")[0] for name, p in body.named_parameters() if not p.requires_grad} == frozen


def test_missing_weights_are_refused(tmp_path) -> None:
    with pytest.raises(UserError, match="no weights of 'lip_resnet50': give a file"):
        TimmBackbone("lip_r50", True)
    torch.save(timm.create_model("resnet50").state_dict(), tmp_path / "resnet50.pth")
    with pytest.raises(UserError, match="lack 'maxpool"):
        TimmBackbone("lip_r50", tmp_path / "resnet50.pth")
    with pytest.raises(UserError, match="no detection weights"):
        build_detector("faster_rcnn_lip_r50_fpn", weights="torchvision")


def test_weights_are_loaded_from_a_file_under_the_same_names(tmp_path) -> None:
    source = TimmBackbone("lip_r50")
    torch.save(source.body.state_dict(), tmp_path / "lip.pth")
    loaded = TimmBackbone("lip_r50", tmp_path / "lip.pth")
    for name, value in source.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["faster_rcnn", "retinanet"])
def test_it_overfits_two_images(name) -> None:
    options = {"anchor_scale": 2} if name == "retinanet" else {"anchor_scale": 4}
    options |= {"frozen_stages": -1, "norm_eval": False}
    history = loss_history(build_detector(f"{name}_lip_r50_fpn", 3, **SMALL[name], **options).train(), steps=5)
    assert min(history) < 0.85 * history[0], history
