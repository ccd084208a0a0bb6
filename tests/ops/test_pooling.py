import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from drfpn.ops import adaptive_average_pool, adaptive_max_pool

SIZES = [(height, height * 5 % 13 + 1) for height in range(1, 14)]
"""Each of 1..13 once a side."""


@pytest.mark.parametrize("bins", [1, 2, 3, 6])
@pytest.mark.parametrize("size", [*SIZES, (25, 40)])
def test_pooling_equals_the_librarys_in_value_and_gradient(bins, size) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 3, bins, bins, dtype=torch.float64)
    ours, theirs = adaptive_average_pool(x, bins), F.adaptive_avg_pool2d(x, bins)
    assert_close(ours, theirs)
    assert_close(*(torch.autograd.grad((y * weight).sum(), x)[0] for y in (ours, theirs)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pooling_keeps_the_dtype(dtype) -> None:
    x = torch.randn(2, 3, 7, 10).to(dtype)
    assert_close(adaptive_average_pool(x, 3), F.adaptive_avg_pool2d(x, 3), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("bins", [(1, 1), (2, 5), (13, 3), (16, 21)])
@pytest.mark.parametrize("size", [*SIZES, (25, 40)])
def test_pooling_over_cells_of_any_shape_equals_the_librarys(bins, size) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 3, *bins, dtype=torch.float64)
    pairs = [
        (adaptive_average_pool(x, bins), F.adaptive_avg_pool2d(x, bins)),
        (adaptive_max_pool(x, bins), F.adaptive_max_pool2d(x, bins)),
    ]
    for ours, theirs in pairs:
        assert_close(ours, theirs)
        assert_close(*(torch.autograd.grad((y * weight).sum(), x)[0] for y in (ours, theirs)))
