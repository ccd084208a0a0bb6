"""Necks and detectors on a simulated device: the CPU's values, no mixed devices, few host waits and kernels."""

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from drfpn import DRFPN, FPN, build_detector
from drfpn.necks import NECKS, SimpleFPN
from drfpn.ops import dispatch
from tests.detectors.scenes import SMALL, scene
from tests.simulated_device import simulated_device, to_cpu, to_device

WAITS = {
    "faster_rcnn": (13, 13),
    "mask_rcnn": (17, 15),
    "cascade_rcnn": (13, 28),
    "cascade_mask_rcnn": (25, 34),
    "retinanet": (0, 11),
    "fcos": (18, 3),
}
"""Host waits of a training step's forward pass: per batch, and per image. These numbers may only decrease."""

WAITS_INFERENCE = {
    "faster_rcnn": 15,
    "mask_rcnn": 20,
    "cascade_rcnn": 23,
    "cascade_mask_rcnn": 36,
    "retinanet": 6,
    "fcos": 6,
}
"""Host waits of the detection of one image, some of them once per mask. These numbers may only decrease."""

KERNELS = {"fpn": 14, "drfpn, paper": 116, "drfpn, release": 137, "drfpn": 167}
"""Kernels of a neck of four levels in inference, nine of them per grid, which a GPU caches. May only decrease."""


@pytest.mark.parametrize("name", NECKS)
def test_a_neck_never_waits_and_returns_the_same(name) -> None:
    make = NECKS[name]
    count = len(make.backbone_strides)
    channels = (32,) * count if make is SimpleFPN else (16, 24, 32, 40)[-count:]
    sizes = [(8, 12)] * count if make is SimpleFPN else [(33, 48), (17, 24), (9, 12), (5, 6)][-count:]
    neck = make(channels, 32).train()
    for parameter in neck.parameters():
        parameter.data.add_(0.02 * torch.randn_like(parameter))  # no layer stays zero
    maps = [torch.randn(2, c, *size) for c, size in zip(channels, sizes, strict=True)]
    other = copy.deepcopy(neck)
    expected = neck(maps)
    sum(level.square().mean() for level in expected).backward()
    with simulated_device() as device:
        levels = to_device(other)(to_device(maps))
        sum(level.square().mean() for level in levels).backward()
    assert not device.waits
    assert_close(to_cpu(list(levels)), list(expected), rtol=1e-4, atol=1e-5)
    for (key, ours), theirs in zip(neck.named_parameters(), other.parameters(), strict=True):
        if ours.grad is not None:
            tolerance = 1e-3 * float(ours.grad.abs().max()) + 1e-7
            assert_close(to_cpu(theirs.grad), ours.grad, rtol=1e-3, atol=tolerance, msg=key)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_detector_trains_and_predicts(name) -> None:
    model = build_detector(f"{name}_lite0_drfpn", 3, **SMALL[name])
    other, (images, targets) = copy.deepcopy(model), scene((96, 128), (128, 96))
    torch.manual_seed(1)
    expected = model.train()(images, targets)
    torch.stack(list(expected.values())).sum().backward()
    with simulated_device() as device:
        to_device(other)
        with torch.no_grad():
            other.eval().detect(to_device(images))  # an untrained detector predicts
        device.waits.clear()
        torch.manual_seed(1)
        losses = other.train()(to_device(images), to_device(targets))
        batch, image = WAITS[name]
        assert sum(device.waits.values()) <= batch + image * len(images), device.waits.most_common()
        torch.stack(list(losses.values())).sum().backward()
        device.waits.clear()
        with torch.no_grad():
            preds = other.eval().detect(to_device(images[:1]))
        assert sum(device.waits.values()) <= WAITS_INFERENCE[name], device.waits.most_common()
    assert_close(to_cpu(losses), expected, rtol=1e-3, atol=1e-4)  # rounding may change the order of RoIs
    assert all(p.grad is not None for p in other.parameters() if p.requires_grad)  # as DDP needs it
    with torch.no_grad():
        expected_preds = model.eval().detect(images[:1])
    assert [len(one["scores"]) for one in preds] == [len(one["scores"]) for one in expected_preds]


def make_neck(name: str) -> nn.Module:
    channels = (16, 24, 32, 40)
    return FPN(channels, 32) if name == "fpn" else DRFPN(channels, 32, convention=name.partition(", ")[2] or "bounded")


@pytest.mark.parametrize("name", KERNELS)
def test_a_neck_launches_few_kernels_and_copies_nothing(name) -> None:
    neck, maps = make_neck(name).eval(), [torch.randn(1, c, 32 >> i, 48 >> i) for i, c in enumerate((16, 24, 32, 40))]
    with simulated_device() as device, torch.no_grad():
        neck, maps = to_device(neck), to_device(maps)
        device.kernels = 0
        neck(maps)
    assert device.kernels <= KERNELS[name]
    assert not device.waits


@pytest.mark.parametrize("name", ["drfpn", "drfpn, release", "fpn_dcn", "fapn", "dysample"])
def test_deterministic_mode_returns_the_same_by_embedding_bags(name, monkeypatch) -> None:
    """As on CUDA under torch.use_deterministic_algorithms."""
    for switch in ("must_be_deterministic", "use_embedding_bag"):
        monkeypatch.setattr(dispatch, switch, lambda device: True)
    neck = make_neck(name) if name.startswith("drfpn") else NECKS[name]((16, 24, 32, 40), 32)
    for parameter in neck.parameters():
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    neck.eval()
    maps = [torch.randn(1, c, 32 >> i, 48 >> i) for i, c in enumerate((16, 24, 32, 40))]
    with torch.no_grad():
        on_cpu = neck(maps)
    with simulated_device() as device, torch.no_grad():
        there = to_device(neck)(to_device(maps))
    assert not device.waits
    assert_close(to_cpu(list(there)), list(on_cpu), rtol=1e-4, atol=1e-5)
    monkeypatch.undo()
    with torch.no_grad():
        assert_close(list(on_cpu), list(to_cpu_module(neck)(maps)), rtol=1e-4, atol=1e-5)


def to_cpu_module(module: nn.Module) -> nn.Module:
    """Return a module whose parameters and buffers are back on the CPU."""
    for part in module.modules():
        part._parameters.update(
            {name: nn.Parameter(to_cpu(p.data)) for name, p in part._parameters.items() if p is not None}
        )
        part._buffers.update(to_cpu(part._buffers))
    return module
