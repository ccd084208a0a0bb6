"""What holds for deformable convolutions: torchvision's is the oracle."""

import pytest
import torch
from torch.testing import assert_close
from torchvision.ops import DeformConv2d

from drfpn.ops import deform_conv


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (3, 2, 1), ((1, 3), 1, (0, 2))])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("far", [0.3, 3.0, 1e9])
def test_values_and_gradients_are_torchvision_s(masked, kernel, stride, padding, groups, far) -> None:
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
    wanted = [m, offset, *conv.parameters(), *([mask] if masked else [])]
    upstream = torch.randn_like(theirs)
    assert_close(*(torch.autograd.grad(out, wanted, upstream) for out in (ours, theirs)))
