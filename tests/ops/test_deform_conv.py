"""Deformable convolutions, compared with torchvision's."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close
from torchvision.ops import DeformConv2d

from drfpn.ops import deform_conv, dispatch


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (3, 2, 1), ((1, 3), 1, (0, 2))])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("far", [0.3, 3.0, 1e9])
@pytest.mark.parametrize("deterministic", [False, True])
def test_values_and_gradients_are_torchvision_s(
    masked, kernel, stride, padding, groups, far, deterministic, monkeypatch
) -> None:
    """Also in the deterministic mode of CUDA."""
    monkeypatch.setattr(dispatch, "must_be_deterministic", lambda device: deterministic)
    torch.manual_seed(0)
    conv = DeformConv2d(4, 5, kernel, stride=stride, padding=padding).double()
    m = torch.randn(2, 4, 7, 9, dtype=torch.float64, requires_grad=True)
    points = conv.weight.shape[2:].numel()
    size = [
        (side + 2 * p - k) // s + 1
        for side, p, k, s in zip(m.shape[2:], conv.padding, conv.kernel_size, conv.stride, strict=True)
    ]
    offset = (torch.randn(2, 2 * points * groups, *size, dtype=torch.float64) * far).requires_grad_()
    mask = torch.rand(2, points * groups, *size, dtype=torch.float64, requires_grad=True) if masked else None
    ours, theirs = deform_conv(conv, m, offset, mask), conv(m, offset, mask)
    assert_close(ours, theirs)
    inputs = [m, offset, *conv.parameters(), *([mask] if masked else [])]
    upstream = torch.randn_like(theirs)
    assert_close(*(torch.autograd.grad(out, inputs, upstream) for out in (ours, theirs)))


def test_at_its_start_a_moved_point_has_torchvision_s_gradient() -> None:
    """Every point lies on a pixel, where the gradient is that of one side."""
    conv = DeformConv2d(4, 5, 3, padding=1).double()
    m = torch.randn(2, 4, 7, 9, dtype=torch.float64)
    offset = torch.zeros(2, 18, 7, 9, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(2, 5, 7, 9, dtype=torch.float64)
    ours, theirs = (torch.autograd.grad(f(m, offset), offset, upstream)[0] for f in (partial(deform_conv, conv), conv))
    assert_close(ours, theirs)


def test_groups_of_channels_with_zero_offsets_are_a_plain_convolution() -> None:
    conv = DeformConv2d(16, 5, 3, padding=1)
    m = torch.randn(2, 16, 60, 80)
    moved = deform_conv(conv, m, torch.zeros(2, 8 * 18, 60, 80))
    assert_close(moved, F.conv2d(m, conv.weight, conv.bias, padding=1), rtol=1e-4, atol=1e-4)
