import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from drfpn.ops import upsample_corners


@pytest.mark.parametrize("given", [(1, 1), (1, 4), (5, 3), (13, 21)])
@pytest.mark.parametrize("size", [(1, 1), (9, 6), (10, 1), (25, 42)])
def test_upsampling_equals_the_librarys_in_value_and_gradient(given, size) -> None:
    x = torch.randn(2, 3, *given, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 3, *size, dtype=torch.float64)
    ours, theirs = upsample_corners(x, size), F.interpolate(x, size=size, mode="bilinear", align_corners=True)
    assert_close(ours, theirs)
    assert_close(*(torch.autograd.grad((y * weight).sum(), x)[0] for y in (ours, theirs)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_upsampling_keeps_the_dtype(dtype) -> None:
    x = torch.randn(2, 3, 7, 10).to(dtype)
    theirs = F.interpolate(x, size=(13, 20), mode="bilinear", align_corners=True)
    assert_close(upsample_corners(x, (13, 20)), theirs, rtol=2e-2, atol=2e-2)
